"""A row's whole state in host memory, so that others can use its blocks; back in the pool it goes on bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.blocks import BlockPool, BlockTable
from zaya_core.cache.cache import Cache
from zaya_core.cache.states import CCATensors, RowStates


@dataclass(frozen=True)
class ParkedCache:
    """One row out of the pool. tensors: as `BlockPool.tensors`, this row's blocks only, on the CPU and not shared."""

    tensors: dict[str, list[Tensor]]
    length: int
    cca: CCATensors

    @property
    def blocks(self) -> int:
        return len(self.tensors["keys"][0])

    @classmethod
    def of(cls, cache: Cache) -> ParkedCache:
        """Copy a cache of one row to host memory; its blocks are free when the cache is gone."""
        if cache.batch_size != 1:
            raise ValueError(f"one row is parked at a time; this cache has {cache.batch_size}")
        blocks = cache.tables[0].blocks[: -(-cache.row_lengths[0] // BLOCK)]
        tensors = {name: [one[blocks].cpu() for one in layers] for name, layers in cache.pool.tensors.items()}
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
        for name, layers in pool.tensors.items():
            for storage, parked in zip(layers, self.tensors[name], strict=True):
                storage[table.blocks] = parked.to(storage.device)
        return Cache(states, [table], [self.length], states.unpark(self.cca))

    def _expect_pool(self, pool: BlockPool) -> None:
        blocks = -(-self.length // BLOCK)
        expected = {
            name: [((blocks, *storage.shape[1:]), storage.dtype) for storage in layers]
            for name, layers in pool.tensors.items()
        }
        found = {name: [(tuple(one.shape), one.dtype) for one in layers] for name, layers in self.tensors.items()}
        if found != expected:
            raise ValueError(f"a row of {self.length} positions of another model does not fit this pool's blocks")
