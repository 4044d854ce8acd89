"""The cache's keys and values as this folder's library points to them (`layer.h`, `key_values.h`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from quant.kernels.pointers import address, described, expect_within, strided

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

    def pointers(self, batch: int, key_heads: int, head_dim: int) -> KeyValuePointers:
        """For as long as the tensors live. Raises ValueError for storage or tables of another form."""
        addresses = storage_addresses(self.storage, key_heads, head_dim, self.block_size)
        of_tables = address(self.tables, "tables", (batch, self.tables.shape[-1]), torch.int64)
        for blocks in self.tables.tolist():
            expect_within(
                "numbers of blocks", (min(blocks, default=0), max(blocks, default=0)), 0, len(self.storage[0]) - 1
            )
        return KeyValuePointers(
            DTYPES.index(self.storage[0].dtype), *addresses, *[None] * (4 - len(addresses)),
            self.block_size, self.tables.shape[1], of_tables,
        )  # fmt: skip


def storage_addresses(storage: Sequence[Tensor], key_heads: int, head_dim: int, block_size: int) -> list[int]:
    """Of one layer's keys and values, with int8 the scales of both. Raises ValueError where they lie in another way."""
    keys = strided(storage[0], "keys")
    if keys.dtype not in DTYPES or block_size % 32 or len(storage) != (4 if keys.dtype == torch.int8 else 2):
        raise ValueError(
            f"keys and values cannot be {described(keys)} in blocks of {block_size}, {len(storage)} tensors"
        )
    each, blocks = 4 // keys.dtype.itemsize, keys.shape[0] if keys.dim() else 0
    shapes = [
        (blocks, key_heads, block_size // 16, head_dim // each, 16, each),
        (blocks, key_heads, head_dim // 16, block_size // each, 16, each),
        *[(blocks, key_heads, block_size)] * 2,
    ]
    dtypes = (keys.dtype, keys.dtype, torch.float32, torch.float32)
    names = ("keys", "values", "key scales", "value scales")
    return [address(*one) for one in zip(storage, names, shapes, dtypes)]  # noqa: B905  (scales with int8 only)
