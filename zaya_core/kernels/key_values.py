"""The paged K/V cache as the library points to it (`abi.h`, `cpu/attention/paged_cache.h`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from quant.kernels.pointers import address, described, expect_within, strided
from zaya_core.kernels.abi import PagedCache

DTYPES = (torch.float32, torch.bfloat16, torch.int8)  # in the order of the library's numbers


class KeyValues(NamedTuple):
    """One layer's keys and values, with int8 the scales of both, and where each row's blocks are.

    storage: (blocks, ...) as `paged_cache.h` says; tables: (B, blocks of the longest row) int64, contiguous;
    block_size: positions of a block, a multiple of 32.
    """

    storage: Sequence[Tensor]
    tables: Tensor
    block_size: int

    def pointers(self, batch: int, key_heads: int, head_dim: int) -> PagedCache:
        """For as long as the tensors live. Raises ValueError for storage or tables of another form."""
        addresses = storage_addresses(self.storage, key_heads, head_dim, self.block_size)
        of_tables = address(self.tables, "tables", (batch, self.tables.shape[-1]), torch.int64)
        for blocks in self.tables.tolist():
            expect_within(
                "numbers of blocks", (min(blocks, default=0), max(blocks, default=0)), 0, len(self.storage[0]) - 1
            )
        return PagedCache(
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
