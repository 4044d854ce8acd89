"""K and V of all rows in a pool of blocks of 256 positions, with a table of block numbers for each row.

Blocks count their owners, so that a fork or a snapshot shares what it has in common with its origin and nothing is
copied until somebody writes. Worked example: a row of 600 positions owns blocks [4, 5, 6], position 600 is slot 88 of
block 6. After `fork(2)` blocks 4, 5, 6 have three owners; the first row that appends gets a copy of block 6, [4, 5, 7].

K and V are in the model's dtype or, with `kv` "int8", in codes of -127..127 with one float32 scale for each position,
head, and K or V: value = code * scale, scale = largest magnitude / 127. Half the memory and half the traffic, and a
token's own pass sees what later passes see, so that chunks, steps and batches still agree.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from quant.kernels.pointers import described, strided
from quant.large_pages import zeros_in_large_pages
from zaya_core.cache.arrangement import BLOCK, Arrangement
from zaya_core.cache.layout import CacheLayout
from zaya_core.errors import MemoryFitError
from zaya_core.whole_numbers import expect_whole


class BlockPool:
    """Storage of K and V for all rows of all caches of one owner, in blocks with reference counts.

    `tensors` has by name one tensor a layer, (blocks, ...) as the one of that name in `arrangements` says, contiguous:
    `keys` and `values` in the model's dtype; with `kv` "int8" in int8 codes, with `key_scales` and `value_scales` in
    float32. New blocks are zeroed: torch's attention multiplies what lies behind a row's end by weights of zero, and
    zero times the NaN of unwritten memory is NaN. `generation` counts how often they have moved.

    On a CPU the pool grows as blocks are needed. On a card with `max_blocks` all are allocated at once, so that what
    has no room there is known before anything is answered (torch.OutOfMemoryError), and nothing moves afterwards.
    """

    _push = staticmethod(heapq.heappush)  # at a program's end tables may go after this module's names

    def __init__(self, layout: CacheLayout, arrangements: Mapping[str, Arrangement], max_blocks: int | None = None):
        self.layout = layout
        self.arrangements = arrangements
        self.max_blocks = max_blocks
        self.tensors = {name: self._no_blocks(one.block_shape, self._dtype(name)) for name, one in arrangements.items()}
        self.generation = 0
        self._owners: list[int] = []
        self._free: list[int] = []
        if max_blocks is not None and layout.device.type != "cpu":
            self._grow_to(max_blocks)

    def _dtype(self, name: str) -> torch.dtype:
        return torch.float32 if name.endswith("scales") else self.layout.kv_dtype

    def _no_blocks(self, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
        empty = torch.zeros((0, *shape), dtype=dtype, device=self.layout.device)
        return [empty] * self.layout.num_layers

    @property
    def blocks_in_use(self) -> int:
        return len(self._owners) - len(self._free)

    @property
    def capacity(self) -> float:
        """How many blocks there can be in all; infinite without a bound."""
        return math.inf if self.max_blocks is None else max(self.max_blocks, len(self._owners))

    @property
    def blocks_left(self) -> float:
        """How many more blocks can be allocated; infinite without a bound."""
        return self.capacity - self.blocks_in_use

    def reserve(self, blocks: int) -> None:
        """Grow until so many more can be allocated without growing. Raises MemoryFitError."""
        while len(self._free) < blocks:
            self._grow()

    def allocate(self) -> int:
        """A block with one owner; the lowest free one, so that a lone row's blocks lie side by side."""
        if not self._free:
            self._grow()
        block = heapq.heappop(self._free)
        self._owners[block] = 1
        return block

    def retain(self, blocks: Sequence[int]) -> None:
        """One more owner for each. Raises ValueError for a block that nobody has."""
        for block in blocks:
            if not (0 <= block < len(self._owners) and self._owners[block]):
                raise ValueError(f"block {block} is not in use; the pool has {len(self._owners)}")
        for block in blocks:
            self._owners[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._owners[block] -= 1
            if self._owners[block] == 0:
                self._push(self._free, block)

    def owners(self, block: int) -> int:
        """How many tables have the block."""
        return self._owners[block]

    def is_shared(self, block: int) -> bool:
        return self._owners[block] > 1

    def clear(self, block: int) -> None:
        """Fill a block with zeros, as a new one is."""
        for layers in self.tensors.values():
            for storage in layers:
                storage[block].zero_()

    def rows_of(self, length: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shapes and dtypes of what `BlockTable.read` gives of so many positions."""
        return {
            name: ((len(layers), length, *self.arrangements[name].row_shape), layers[0].dtype)
            for name, layers in self.tensors.items()
        }

    @torch.inference_mode()
    def copy(self, source: int, target: int) -> None:
        for layers in self.tensors.values():
            for storage in layers:
                storage[target].copy_(storage[source])

    def _grow(self) -> None:
        old = len(self._owners)
        new = max(4, 2 * old) if self.max_blocks is None else min(max(4, 2 * old), self.max_blocks)
        if new <= old:
            raise MemoryFitError(
                f"The key/value cache is full: {old} blocks of {BLOCK} positions, "
                f"{old * self.layout.bytes_per_block / 2**30:.1f} GiB. Use a shorter context or fewer rows at once."
            )
        self._grow_to(new)

    def _grow_to(self, new: int) -> None:
        self.generation += 1  # also of a growth that fails half way
        for layers in self.tensors.values():
            for layer, storage in enumerate(layers):  # one layer at a time: only its storage exists twice
                layers[layer] = self._enlarged(storage, new)
        old = len(self._owners)
        self._owners += [0] * (new - old)
        self._free += range(old, new)

    @staticmethod
    def _enlarged(storage: Tensor, blocks: int) -> Tensor:
        larger = zeros_in_large_pages((blocks, *storage.shape[1:]), storage.dtype, storage.device)
        if len(storage):
            larger[: len(storage)] = storage
        return larger


class BlockTable:
    """The blocks of one row, in order. Owns a reference to each until it is garbage."""

    def __init__(self, pool: BlockPool, blocks: Sequence[int] = ()):
        self.pool = pool
        self.blocks: list[int] = []
        pool.retain(blocks)
        self.blocks += blocks

    def copy(self) -> BlockTable:
        return BlockTable(self.pool, self.blocks)

    @property
    def holds_alone(self) -> bool:
        """Whether some block would be free without this table."""
        return any(not self.pool.is_shared(block) for block in self.blocks)

    def reserve(self, start: int, stop: int) -> None:
        """Make positions start..stop-1 writable: append blocks, copy a shared one that they begin in the middle of."""
        first = start // BLOCK
        if start < stop and first < len(self.blocks) and self.pool.is_shared(self.blocks[first]):
            own = self.pool.allocate()
            try:
                self.pool.copy(self.blocks[first], own)
            except BaseException:
                self.pool.release([own])
                raise
            self.pool.release([self.blocks[first]])
            self.blocks[first] = own
        while len(self.blocks) * BLOCK < stop:
            self.blocks.append(self.pool.allocate())

    def missing(self, start: int, stop: int) -> int:
        """How many blocks `reserve` would allocate."""
        first = start // BLOCK
        copies = start < stop and first < len(self.blocks) and self.pool.is_shared(self.blocks[first])
        return copies + max(0, -(-stop // BLOCK) - len(self.blocks))

    def truncate(self, length: int) -> None:
        """Give back the blocks that only positions from `length` on use."""
        keep = -(-length // BLOCK)
        self.pool.release(self.blocks[keep:])
        del self.blocks[keep:]

    def clear(self) -> None:
        """Fill the blocks that no other table has with zeros: what is no number must not reach their next owner."""
        for block in self.blocks:
            if not self.pool.is_shared(block):
                self.pool.clear(block)

    def slots(self, start: int, stop: int) -> list[int]:
        """Flat storage index of positions start..stop-1."""
        return [self.blocks[p // BLOCK] * BLOCK + p % BLOCK for p in range(start, stop)]

    def read(self, length: int) -> dict[str, Tensor]:
        """The first `length` positions in host memory, by the names of the pool's tensors: (L, length, G, ...) each.

        A card, which may be full, holds a copy of one layer at a time. Raises ValueError where the blocks hold fewer.
        """
        expect_whole("the number of positions", length, 0, len(self.blocks) * BLOCK)
        index = torch.tensor(self.blocks, dtype=torch.long, device=self.pool.layout.device)
        arrangements = self.pool.arrangements
        return {
            name: torch.stack(
                [arrangements[name].rows(storage[index].cpu()).flatten(0, 1)[:length] for storage in layers]
            )
            for name, layers in self.pool.tensors.items()
        }

    @classmethod
    @torch.inference_mode()
    def written(cls, pool: BlockPool, tensors: Mapping[str, Tensor]) -> BlockTable:
        """A new table that holds what `read` gave. Raises MemoryFitError; ValueError for what does not fit the pool."""
        keys = tensors.get("keys")
        length = keys.shape[1] if isinstance(keys, Tensor) and keys.dim() > 1 else 0
        for name, (shape, dtype) in pool.rows_of(length).items():
            one = strided(tensors.get(name), name)
            if one.shape != shape or one.dtype != dtype or one.is_meta:
                raise ValueError(f"{name} of {length} positions must be {shape} {dtype}; they are {described(one)}")
        table = cls(pool)
        table.reserve(0, length)
        slots = torch.tensor(table.slots(0, length), dtype=torch.long, device=pool.layout.device)
        block, at = slots // BLOCK, slots % BLOCK
        for name, layers in pool.tensors.items():
            for storage, rows in zip(layers, tensors[name], strict=True):
                pool.arrangements[name].write(storage, block, at, rows.to(storage.device))
        return table

    def __del__(self) -> None:
        self.pool.release(self.blocks)
