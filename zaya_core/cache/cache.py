"""All temporal state of a batch: where its keys and values are, and CCA's convolution tail and delayed values.

K and V can be cut at any position, the other two states only where a snapshot was taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.blocks import BlockPool, BlockTable
from zaya_core.cache.states import RowStates
from zaya_core.whole_numbers import expect_all_whole, expect_whole


@dataclass(frozen=True)
class Snapshot:
    """The state of all rows at one moment. Valid whatever is written later; may be restored any number of times."""

    states: RowStates
    tables: tuple[BlockTable, ...]
    row_lengths: tuple[int, ...]
    cca: Any


class Cache:
    """State of B rows.

    Attributes: `states`, who owns it; `tables`, where each row's keys and values are; `row_lengths`, positions stored
    in each row; `cca`, what stands for the rest of it there.
    """

    def __init__(self, states: RowStates, tables: Sequence[BlockTable], row_lengths: Sequence[int], cca: Any):
        """Raises ValueError for parts that do not belong together."""
        _expect_rows(states, tables, row_lengths, cca)
        self.states = states
        self.tables = list(tables)
        self.row_lengths = list(row_lengths)
        self.cca = cca

    @classmethod
    def empty(cls, states: RowStates, batch_size: int = 1) -> Cache:
        """Rows that have seen nothing. Raises ValueError for less than one."""
        batch_size = expect_whole("the number of rows", batch_size, 1)
        tables = [BlockTable(states.pool) for _ in range(batch_size)]
        return cls(states, tables, [0] * batch_size, states.empty(batch_size))

    @classmethod
    def join(cls, caches: Sequence[Cache]) -> Cache:
        """One cache with the rows of several, which are used up by it. Raises ValueError unless all have one owner."""
        if not caches or any(cache.states is not caches[0].states for cache in caches):
            raise ValueError(f"caches of one owner can be joined, and at least one; these are {len(caches)}")
        tables = [table for cache in caches for table in cache.tables]
        lengths = [length for cache in caches for length in cache.row_lengths]
        states = caches[0].states
        return cls(states, tables, lengths, states.join([cache.cca for cache in caches]))

    @property
    def pool(self) -> BlockPool:
        return self.states.pool

    @property
    def batch_size(self) -> int:
        return len(self.tables)

    @property
    def lengths(self) -> Tensor:
        """(B) int64: positions stored in each row."""
        return torch.tensor(self.row_lengths)

    @property
    def nbytes(self) -> int:
        """Bytes held by these rows; blocks that rows share count once."""
        blocks = {block for table in self.tables for block in table.blocks}
        return len(blocks) * self.pool.layout.bytes_per_block + self.states.nbytes(self.cca)

    def blocks_for(self, columns: int) -> int:
        """Blocks that a pass of `columns` tokens a row allocates at most."""
        rows = zip(self.tables, self.row_lengths, strict=True)
        return sum(table.missing(length, length + columns) for table, length in rows)

    def snapshot(self) -> Snapshot:
        tables = tuple(table.copy() for table in self.tables)
        return Snapshot(self.states, tables, tuple(self.row_lengths), self.states.snapshot(self.cca))

    def restore(self, snapshot: Snapshot) -> None:
        """Go back (or forward) to a snapshot of this cache or of one with as many rows.

        Raises ValueError for another number of rows, or a snapshot that another Engine or model owns.
        """
        if len(snapshot.tables) != self.batch_size:
            raise ValueError(f"a snapshot of {len(snapshot.tables)} rows does not fit a cache of {self.batch_size}")
        _expect_rows(self.states, snapshot.tables, snapshot.row_lengths, snapshot.cca)
        self.tables = [table.copy() for table in snapshot.tables]
        self.row_lengths = list(snapshot.row_lengths)
        self.cca = self.states.restore(snapshot.cca)

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot) -> Cache:
        """A new cache in the state of the snapshot. Raises ValueError for one of no rows."""
        if not snapshot.tables:
            raise ValueError("a snapshot of no rows makes no cache")
        tables = [table.copy() for table in snapshot.tables]
        return cls(snapshot.states, tables, snapshot.row_lengths, snapshot.states.restore(snapshot.cca))

    def select(self, rows: Sequence[int]) -> Cache:
        """A new cache with copies of these rows, in this order; a row may be taken several times.

        Raises ValueError for none, or one that is not from 0 to B - 1.
        """
        rows = expect_all_whole("the rows", rows, 0, self.batch_size - 1)
        tables = [self.tables[row].copy() for row in rows]
        lengths = [self.row_lengths[row] for row in rows]
        return Cache(self.states, tables, lengths, self.states.select(self.cca, rows))

    def repeat_to(self, length: int) -> None:
        """Fill every row up to `length` positions with copies of its full blocks: a depth to measure at, without sense.

        Rows that are as long already stay. Raises ValueError for a shorter row without a full block, MemoryFitError;
        the rows are then unchanged.
        """
        expect_whole("the length", length, 0)
        short = [row for row, stored in enumerate(self.row_lengths) if stored < length]
        for stored in (self.row_lengths[row] for row in short):
            if stored < BLOCK:
                raise ValueError(f"a row of {stored} positions has no full block of {BLOCK} to copy")
        starts = {row: self.row_lengths[row] // BLOCK for row in short}
        self.pool.reserve(sum(self.tables[row].missing(full * BLOCK, length) for row, full in starts.items()))
        for row, full in starts.items():
            table = self.tables[row]
            table.reserve(full * BLOCK, length)
            for number in range(full, len(table.blocks)):
                self.pool.copy(table.blocks[number % full], table.blocks[number])
            self.row_lengths[row] = length

    def fork(self, n: int) -> Cache:
        """A new cache with n copies of the only row, which share all of its blocks. Raises ValueError."""
        expect_whole("the number of copies", n, 1)
        if self.batch_size != 1:
            raise ValueError(f"fork copies the only row; this cache has {self.batch_size}")
        return self.select([0] * n)


def _expect_rows(states: RowStates, tables: Sequence[BlockTable], row_lengths: Sequence[int], cca: Any) -> None:
    """Raises ValueError unless these are the state of some rows, each with blocks for what it holds."""
    rows = len(tables)
    if any(table.pool is not states.pool for table in tables):
        raise ValueError("the rows' keys and values are in the pool of another Engine or model")
    if not rows or len({*map(id, tables)}) != rows or len(row_lengths) != rows:
        raise ValueError(f"a cache needs a table of its own and a length for each row; {rows}, {len(row_lengths)}")
    for table, length in zip(tables, row_lengths, strict=True):
        expect_whole("a row's length", length, 0, len(table.blocks) * BLOCK)
    states.expect(cca, rows)
