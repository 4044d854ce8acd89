"""The rows that run together, and the cache that has one row for each of them, in the same order."""

from __future__ import annotations

from collections.abc import Iterator

from zaya_core.cache.blocks import BlockTable
from zaya_core.cache.cache import Cache
from zaya_core.engine.row import Row


class Batch:
    """State: `rows`, and their `cache`; None without a row."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.cache: Cache | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def join(self, row: Row, cache: Cache) -> None:
        """Add a row; its cache is used up."""
        self.cache = cache if self.cache is None else Cache.join([self.cache, cache])
        self.rows.append(row)

    def keep(self, places: list[int]) -> None:
        """Keep only the rows at these places, in ascending order. When it fails, nothing has changed."""
        cache = self.cache.select(places) if self.cache is not None and places else None
        self.cache, self.rows = cache, [self.rows[place] for place in places]

    def empty(self) -> None:
        """Let all rows go, with their state."""
        self.rows, self.cache = [], None

    def copy_of(self, row: Row) -> Cache:
        """The state of one row as a cache of its own."""
        assert self.cache is not None
        return self.cache.select([self.rows.index(row)])

    def tables_of(self, row: Row) -> list[BlockTable]:
        """The blocks of one row; none for a row that does not run."""
        tables = [] if self.cache is None else self.cache.tables
        return [table for other, table in zip(self.rows, tables, strict=True) if other is row]

    def blocks_for_a_token(self) -> int:
        """How many blocks a step of all rows allocates."""
        return 0 if self.cache is None else self.cache.blocks_for(1)
