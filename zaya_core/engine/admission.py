"""Admission: whether there are blocks for more work, if need be by forgetting kept prefixes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from zaya_core.cache.blocks import BlockPool
from zaya_core.cache.prefixes import PrefixStore
from zaya_core.engine.row import Row


class Admission:
    """State: the situation in which there was no room for who comes next; asking again in it would give the same."""

    def __init__(self, pool: BlockPool, prefixes: PrefixStore):
        self._pool, self._prefixes = pool, prefixes
        self._refused: tuple[object, ...] | None = None

    def was_refused(self, row: Row, others: Iterable[Row]) -> bool:
        """Whether there was no room for a row beside the same others when as many blocks were left as now."""
        return self._refused == self._situation_of(row, others)

    def refuse(self, row: Row, others: Iterable[Row]) -> None:
        """Note that there is none."""
        self._refused = self._situation_of(row, others)

    def _situation_of(self, row: Row, others: Iterable[Row]) -> tuple[object, ...]:
        return row.id, self._pool.blocks_left, *(other.id for other in others)

    def has_room(self, needed: Callable[[], int]) -> bool:
        """Whether so many blocks are left, or can be had by forgetting prefixes; none is forgotten in vain."""
        missing = needed() - self._pool.blocks_left
        if missing <= 0:
            return True
        return missing <= self._prefixes.blocks_alone() and self.make_room(needed)

    def make_room(self, needed: Callable[[], int]) -> bool:
        """Forget prefixes until so many blocks are left; whether they are."""
        while self._pool.blocks_left < needed():
            if not self._prefixes.free_a_block():
                return False
        return True
