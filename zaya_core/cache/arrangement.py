"""Where keys and values lie in a block of 256 positions: as attention multiplies them, so that nothing is turned over.

On a CPU a block's heads lie one after the other. In each, sixteen words of 32 bits lie beside each other as the lanes
of a vector, and a word holds `each` numbers that are multiplied one after the other: 1 in float32, 2 in bf16, 4 in
int8. Of keys the lanes are positions and a word holds numbers of one key; of values the lanes are numbers of a value
and a word holds positions. Example, bf16, K = 128: key 37 of a head, number 5, is the second half of word 37 % 16 of
line 5 // 2 of tile 37 // 16; value 37, number 5, is the second half of word 5 of line 37 // 2 of tile 0.

`zaya_core/kernels/cpu/attention/paged_cache.h` is the same for the native kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

BLOCK = 256
_LANES = 16
_WORD = 4  # bytes


class Arrangement(Protocol):
    """How one kind of tensor lies in blocks. N and n: any number of positions, of blocks."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Of what belongs to one position."""

    @property
    def block_shape(self) -> tuple[int, ...]: ...

    def write(self, storage: Tensor, block: Tensor, at: Tensor, rows: Tensor) -> None:
        """Put rows (N, *row_shape) at positions `at` (N) of blocks `block` (N) of storage (n, *block_shape)."""

    def rows(self, blocks: Tensor) -> Tensor:
        """blocks: (..., *block_shape) -> a copy or view (..., BLOCK, *row_shape)."""


@dataclass(frozen=True)
class _Heads:
    """What keys and values have in common: a row for each of the heads."""

    heads: int
    head_dim: int
    dtype: torch.dtype

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.heads, self.head_dim


@dataclass(frozen=True)
class Keys(_Heads):
    """(G, BLOCK/16, K/each, 16, each) a block."""

    @property
    def block_shape(self) -> tuple[int, ...]:
        return self.heads, BLOCK // _LANES, self.head_dim // self._each, _LANES, self._each

    @property
    def _each(self) -> int:
        return math.gcd(_each(self.dtype), self.head_dim)  # narrow heads of tests do not fill a word

    def write(self, storage: Tensor, block: Tensor, at: Tensor, rows: Tensor) -> None:
        storage[block, :, at // _LANES, :, at % _LANES] = rows.unflatten(-1, (-1, self._each))

    def rows(self, blocks: Tensor) -> Tensor:
        by_position = blocks.movedim((-4, -2), (-5, -4))  # (..., BLOCK/16, 16, G, K/each, each)
        return by_position.flatten(-2).flatten(-4, -3)


@dataclass(frozen=True)
class Values(_Heads):
    """(G, K/16, BLOCK/each, 16, each) a block."""

    @property
    def block_shape(self) -> tuple[int, ...]:
        each, lanes = _each(self.dtype), self._lanes
        return self.heads, self.head_dim // lanes, BLOCK // each, lanes, each

    @property
    def _lanes(self) -> int:
        return math.gcd(_LANES, self.head_dim)

    def write(self, storage: Tensor, block: Tensor, at: Tensor, rows: Tensor) -> None:
        each = _each(self.dtype)
        storage[block, :, :, at // each, :, at % each] = rows.unflatten(-1, (-1, self._lanes))

    def rows(self, blocks: Tensor) -> Tensor:
        by_position = blocks.movedim((-3, -1), (-5, -4))  # (..., BLOCK/each, each, G, K/16, 16)
        return by_position.flatten(-2).flatten(-4, -3)


@dataclass(frozen=True)
class Scales:
    """(G, BLOCK) a block."""

    heads: int

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (self.heads,)

    @property
    def block_shape(self) -> tuple[int, ...]:
        return self.heads, BLOCK

    def write(self, storage: Tensor, block: Tensor, at: Tensor, rows: Tensor) -> None:
        storage[block, :, at] = rows

    def rows(self, blocks: Tensor) -> Tensor:
        return blocks.transpose(-2, -1)


@dataclass(frozen=True)
class HeadRows:
    """(G, BLOCK, K) a block: the rows of a head lie one behind the other, as kernels of a card read them."""

    heads: int
    head_dim: int

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.heads, self.head_dim

    @property
    def block_shape(self) -> tuple[int, ...]:
        return self.heads, BLOCK, self.head_dim

    def write(self, storage: Tensor, block: Tensor, at: Tensor, rows: Tensor) -> None:
        storage[block, :, at] = rows

    def rows(self, blocks: Tensor) -> Tensor:
        return blocks.transpose(-3, -2)


@dataclass(frozen=True)
class Rows:
    """(BLOCK, *row_shape) a block: position by position, so that torch can read blocks side by side where they lie."""

    row_shape: tuple[int, ...]

    @property
    def block_shape(self) -> tuple[int, ...]:
        return BLOCK, *self.row_shape

    def write(self, storage: Tensor, block: Tensor, at: Tensor, rows: Tensor) -> None:
        storage[block, at] = rows

    def rows(self, blocks: Tensor) -> Tensor:
        return blocks


def plain_rows(heads: int, head_dim: int, dtype: torch.dtype) -> dict[str, Arrangement]:
    """As `packed_words`, for torch on a card."""
    scales = dict.fromkeys(("key_scales", "value_scales"), Rows((heads,))) if dtype == torch.int8 else {}
    return {**dict.fromkeys(("keys", "values"), Rows((heads, head_dim))), **scales}


def head_rows(heads: int, head_dim: int, dtype: torch.dtype) -> dict[str, Arrangement]:
    """As `packed_words`, for kernels of a card."""
    scales = dict.fromkeys(("key_scales", "value_scales"), Scales(heads)) if dtype == torch.int8 else {}
    return {**dict.fromkeys(("keys", "values"), HeadRows(heads, head_dim)), **scales}


def packed_words(heads: int, head_dim: int, dtype: torch.dtype) -> dict[str, Arrangement]:
    """Of keys and values that are stored in `dtype`, by name; with int8 those of their scales, too."""
    of_numbers: dict[str, Arrangement] = {
        "keys": Keys(heads, head_dim, dtype),
        "values": Values(heads, head_dim, dtype),
    }
    of_scales = dict.fromkeys(("key_scales", "value_scales"), Scales(heads)) if dtype == torch.int8 else {}
    return {**of_numbers, **of_scales}


def _each(dtype: torch.dtype) -> int:
    return _WORD // dtype.itemsize
