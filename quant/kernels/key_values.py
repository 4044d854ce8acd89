"""The cache's keys and values as this folder's library points to them (`layer.h`, `key_values.h`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.int8)  # in the order of the library's numbers


class KeyValuePointers(ctypes.Structure):
    """`ZayaKeyValues`."""

    _fields_ = (
        ("format", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("keys", "values", "key_scales", "value_scales")),
        *((name, ctypes.c_int64) for name in ("block_size", "most_blocks")),
        ("tables", ctypes.c_void_p),
    )


class KeyValues(NamedTuple):
    """One layer's keys and values, with int8 the scales of both, and where each row's blocks are.

    storage: (blocks, ...) as `key_values.h` says; tables: (B, blocks of the longest row) int64, contiguous; block_size:
    positions of a block, a multiple of 32.
    """

    storage: Sequence[Tensor]
    tables: Tensor
    block_size: int

    def pointers(self) -> KeyValuePointers:
        """For as long as the tensors live."""
        return KeyValuePointers(
            DTYPES.index(self.storage[0].dtype), *(tensor.data_ptr() for tensor in self.storage),
            *[None] * (4 - len(self.storage)), self.block_size, self.tables.shape[1], self.tables.data_ptr(),
        )  # fmt: skip
