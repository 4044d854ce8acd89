"""Snapshots by the ids that led to them, so that nobody pays twice for the same beginning of a prompt."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.blocks import BlockTable
from zaya_core.cache.cache import Snapshot
from zaya_core.cache.states import RowStates


@dataclass(frozen=True)
class Prefix:
    """State after `ids`. `logits` (V) of the next token are there when `ids` is a whole prompt of several requests."""

    ids: tuple[int, ...]
    snapshot: Snapshot
    logits: Tensor | None = None

    def begins(self, ids: tuple[int, ...]) -> bool:
        length = len(self.ids)
        # The last id first: most prefixes differ there, and a long prompt is not copied for them.
        return length <= len(ids) and ids[length - 1] == self.ids[-1] and ids[:length] == self.ids


class PrefixStore:
    """The most recently used prefixes. Blocks that a prefix shares with others are not held twice."""

    def __init__(self, states: RowStates, capacity: int = 16):
        self.capacity = capacity
        self._states = states
        self._prefixes: OrderedDict[tuple[int, ...], Prefix] = OrderedDict()

    def add(self, prefix: Prefix) -> None:
        """Keep a prefix. Raises ValueError for one whose state another Engine or model owns."""
        if prefix.snapshot.states is not self._states:
            raise ValueError("a prefix of another Engine or model cannot be gone on from here")
        known = self._prefixes.pop(prefix.ids, None)
        if known is not None and prefix.logits is None:
            prefix = known
        self._prefixes[prefix.ids] = prefix
        while len(self._prefixes) > self.capacity:
            self._prefixes.popitem(last=False)

    def deepest(self, ids: Sequence[int]) -> Prefix | None:
        """The longest known beginning of `ids` from which it can go on.

        A prefix as long as `ids` is of use only with its logits: something must be computed to get any.
        """
        ids = tuple(ids)
        fitting = [
            prefix
            for prefix in self._prefixes.values()
            if prefix.begins(ids) and (len(prefix.ids) < len(ids) or prefix.logits is not None)
        ]
        if not fitting:
            return None
        fitting.sort(key=lambda prefix: len(prefix.ids))
        for prefix in fitting:  # the beginnings of what is used are used
            self._prefixes.move_to_end(prefix.ids)
        return fitting[-1]

    def blocks_alone(self) -> int:
        """How many blocks only prefixes have: those that would be free without any."""
        tables = [table for prefix in self._prefixes.values() for table in prefix.snapshot.tables]
        owned = Counter(block for table in tables for block in table.blocks)
        return sum(tables[0].pool.owners(block) == count for block, count in owned.items())

    def free_a_block(self) -> bool:
        """Forget the least recently used prefix that holds blocks from others; False when there is none.

        First one that alone holds a block, then one that ends within a shared block: who else has that needs a copy to
        go on in it, and of several such prefixes the last one holds it alone.
        """
        ways: tuple[Callable[[BlockTable, int], bool], ...] = (
            lambda table, length: table.holds_alone,
            lambda table, length: length % BLOCK > 0 and table.pool.is_shared(table.blocks[-1]),
        )
        for holds in ways:
            for ids, prefix in self._prefixes.items():
                if any(map(holds, prefix.snapshot.tables, prefix.snapshot.row_lengths)):
                    del self._prefixes[ids]
                    return True
        return False

    def forget_beyond(self, beginning: Sequence[int]) -> None:
        """Forget what goes on from a beginning, and keep the beginning itself."""
        start = tuple(beginning)
        longer = [ids for ids in self._prefixes if len(ids) > len(start) and ids[: len(start)] == start]
        for ids in longer:
            del self._prefixes[ids]

    def beginnings_of(self, ids: Sequence[int]) -> list[Prefix]:
        """All that `ids` begin with, from the shortest to the longest."""
        ids = tuple(ids)
        found = [prefix for prefix in self._prefixes.values() if prefix.begins(ids)]
        return sorted(found, key=lambda prefix: len(prefix.ids))

    def keep_only(self, prefixes: Sequence[Prefix]) -> None:
        """Forget all others."""
        wanted = {prefix.ids for prefix in prefixes}
        for ids in [ids for ids in self._prefixes if ids not in wanted]:
            del self._prefixes[ids]

    def clear(self) -> None:
        self._prefixes.clear()
