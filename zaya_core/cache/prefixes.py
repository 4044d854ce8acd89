"""Snapshots by the ids that led to them, so that nobody pays twice for the same beginning of a prompt."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.blocks import BlockTable
from zaya_core.cache.cache import Snapshot
from zaya_core.cache.states import RowStates

# Most prefixes, unless said otherwise: each holds CCA's state besides its blocks, and perhaps logits. More in a bounded
# pool of host memory, where blocks go to the rows that need them; a card's memory is counted with the fewer.
MAX_PREFIXES, MAX_PREFIXES_BOUNDED = 16, 64


@dataclass(frozen=True)
class Prefix:
    """State after `ids`. `logits` (V) of the next token are there when `ids` is a whole prompt of several requests.

    salt: who may go on from it, those who name the same.
    """

    ids: tuple[int, ...]
    snapshot: Snapshot
    logits: Tensor | None = None
    salt: bytes = b""

    @property
    def key(self) -> tuple[bytes, tuple[int, ...]]:
        return self.salt, self.ids

    def begins(self, ids: tuple[int, ...], salt: bytes = b"") -> bool:
        length = len(self.ids)
        # The last id first: most prefixes differ there, and a long prompt is not copied for them.
        return self.salt == salt and length <= len(ids) and ids[length - 1] == self.ids[-1] and ids[:length] == self.ids

    @property
    def blocks(self) -> list[int]:
        return [block for table in self.snapshot.tables for block in table.blocks]


class PrefixStore:
    """The most recently used prefixes. Blocks that a prefix shares with others are not held twice."""

    def __init__(self, states: RowStates, max_prefixes: int = MAX_PREFIXES, max_blocks: float = math.inf):
        """max_prefixes: most of them; max_blocks: most blocks that they hold in all, a shared one counted once."""
        self.max_prefixes, self.max_blocks = max_prefixes, max_blocks
        self._states = states
        self._prefixes: OrderedDict[tuple[bytes, tuple[int, ...]], Prefix] = OrderedDict()
        self._held: Counter[int] = Counter()  # by block, how often prefixes hold it

    def __len__(self) -> int:
        return len(self._prefixes)

    @property
    def blocks(self) -> int:
        """How many blocks they hold, with others or alone."""
        return len(self._held)

    def add(self, prefix: Prefix) -> None:
        """Keep a prefix, if it alone is not too large, and forget the least recently used until all fit.

        Raises ValueError for one whose state another Engine or model owns.
        """
        if prefix.snapshot.states is not self._states:
            raise ValueError("a prefix of another Engine or model cannot be gone on from here")
        known = self._prefixes.get(prefix.key)
        if known is not None and prefix.logits is None:
            self._prefixes.move_to_end(prefix.key)
            return
        if len(set(prefix.blocks)) > self.max_blocks:
            return
        if known is not None:
            self._forget(prefix.key)
        self._prefixes[prefix.key] = prefix
        self._held.update(prefix.blocks)
        while len(self._prefixes) > self.max_prefixes or self.blocks > self.max_blocks:
            self._forget(next(iter(self._prefixes)))

    def _forget(self, key: tuple[bytes, tuple[int, ...]]) -> None:
        for block in self._prefixes.pop(key).blocks:
            self._held[block] -= 1
            if not self._held[block]:
                del self._held[block]

    def deepest(self, ids: Sequence[int], salt: bytes = b"") -> Prefix | None:
        """The longest known beginning of `ids` from which it can go on; with its own beginnings it counts as used."""
        fitting = self._fitting(ids, salt)
        for prefix in fitting:
            self._prefixes.move_to_end(prefix.key)
        return fitting[-1] if fitting else None

    def known_length(self, ids: Sequence[int], salt: bytes = b"") -> int:
        """How much of `ids` need not be computed, as `deepest` would find now; nothing counts as used by it."""
        fitting = self._fitting(ids, salt)
        return len(fitting[-1].ids) if fitting else 0

    def _fitting(self, ids: Sequence[int], salt: bytes) -> list[Prefix]:
        """From the shortest to the longest, those from which it can go on.

        A prefix as long as `ids` is of use only with its logits: something must be computed to get any.
        """
        found = self.beginnings_of(ids, salt)
        return [prefix for prefix in found if len(prefix.ids) < len(ids) or prefix.logits is not None]

    def blocks_alone(self) -> int:
        """How many blocks only prefixes have: those that would be free without any."""
        pool = self._states.pool
        return sum(pool.owners(block) == count for block, count in self._held.items())

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
            for key, prefix in self._prefixes.items():
                if any(map(holds, prefix.snapshot.tables, prefix.snapshot.row_lengths)):
                    self._forget(key)
                    return True
        return False

    def forget_beyond(self, beginning: Sequence[int], salt: bytes = b"") -> None:
        """Forget what goes on from a beginning, and keep the beginning itself. Of none: all of the salt."""
        start = tuple(beginning)
        for key in list(self._prefixes):
            if key[0] == salt and len(key[1]) > len(start) and key[1][: len(start)] == start:
                self._forget(key)

    def beginnings_of(self, ids: Sequence[int], salt: bytes = b"") -> list[Prefix]:
        """All that `ids` begin with, from the shortest to the longest."""
        ids = tuple(ids)
        found = [prefix for prefix in self._prefixes.values() if prefix.begins(ids, salt)]
        return sorted(found, key=lambda prefix: len(prefix.ids))

    def keep_only(self, prefixes: Sequence[Prefix]) -> None:
        """Forget all others."""
        wanted = {prefix.key for prefix in prefixes}
        for key in list(self._prefixes):
            if key not in wanted:
                self._forget(key)

    def clear(self) -> None:
        self._prefixes.clear()
        self._held.clear()
