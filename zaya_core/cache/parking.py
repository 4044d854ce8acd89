"""A row's whole state in host memory, so that others can use its blocks; back in the pool it goes on bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.blocks import BlockPool, BlockTable
from zaya_core.cache.cache import Cache
from zaya_core.cache.states import CCATensors, RowStates

_COPIED_AT_ONCE = 64 << 20  # bytes


@dataclass(frozen=True)
class ParkedCache:
    """One row out of the pool.

    tensors: by the names of `BlockPool.tensors`, this row's blocks only, (L, blocks, ...) on the CPU.
    """

    tensors: dict[str, Tensor]
    length: int
    cca: CCATensors

    @property
    def blocks(self) -> int:
        return self.tensors["keys"].shape[1]

    @classmethod
    def of(cls, cache: Cache) -> ParkedCache:
        """Copy a cache of one row to host memory; its blocks are free when the cache is gone."""
        if cache.batch_size != 1:
            raise ValueError(f"one row is parked at a time; this cache has {cache.batch_size}")
        blocks = cache.tables[0].blocks[: -(-cache.row_lengths[0] // BLOCK)]
        index = torch.tensor(blocks, dtype=torch.long).to(cache.pool.layout.device)
        tensors = {name: _gathered(layers, index) for name, layers in cache.pool.tensors.items()}
        return cls(tensors, cache.row_lengths[0], cache.states.park(cache.cca))

    @torch.inference_mode()
    def back_in(self, states: RowStates) -> Cache:
        """The row in blocks of its own.

        Raises MemoryFitError when the pool has too few, ValueError when it is that of another model.
        """
        pool = states.pool
        self._expect_pool(pool)
        table = BlockTable(pool)
        table.reserve(0, self.length)
        index = torch.tensor(table.blocks, dtype=torch.long).to(pool.layout.device)
        for name, layers in pool.tensors.items():
            _scatter(layers, index, self.tensors[name])
        return Cache(states, [table], [self.length], states.unpark(self.cca))

    def _expect_pool(self, pool: BlockPool) -> None:
        blocks = -(-self.length // BLOCK)
        expected = {
            name: ((len(layers), blocks, *layers[0].shape[1:]), layers[0].dtype)
            for name, layers in pool.tensors.items()
        }
        found = {name: (tuple(one.shape), one.dtype) for name, one in self.tensors.items()}
        if found != expected:
            raise ValueError(f"a row of {self.length} positions of another model does not fit this pool's blocks")


def _gathered(layers: Sequence[Tensor], index: Tensor) -> Tensor:
    """Blocks of all layers in host memory, (L, blocks, ...), in few copies: each waits for the device."""
    parked = torch.empty(len(layers), len(index), *layers[0].shape[1:], dtype=layers[0].dtype)
    for part, some in _in_parts(layers, parked):
        part.copy_(torch.stack([storage[index] for storage in some]))
    return parked


def _scatter(layers: Sequence[Tensor], index: Tensor, parked: Tensor) -> None:
    for part, some in _in_parts(layers, parked):
        for storage, blocks in zip(some, part.to(index.device), strict=True):
            storage[index] = blocks


def _in_parts(layers: Sequence[Tensor], parked: Tensor) -> Iterator[tuple[Tensor, Sequence[Tensor]]]:
    """Parts of `parked` and their layers: so many that a copy on the device, which is short of memory, stays small."""
    at_once = max(1, _COPIED_AT_ONCE // max(1, parked[0].nbytes))
    for number, part in enumerate(parked.split(at_once)):
        yield part, layers[number * at_once : (number + 1) * at_once]
