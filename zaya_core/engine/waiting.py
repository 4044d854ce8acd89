"""Requests that wait to begin, and who of them is next."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator

from zaya_core.engine.prompt_tree import SaltedPrompts
from zaya_core.engine.row import Row


class WaitingRows:
    """State: the rows by id, oldest first, and the prompts that could go on from what another one computes."""

    def __init__(self) -> None:
        self._rows: OrderedDict[int, Row] = OrderedDict()
        self._prompts = SaltedPrompts()

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows.values())

    def add(self, row: Row) -> None:
        """Behind all others."""
        self._rows[row.id] = row
        if row.may_reuse:
            self._prompts.add(row.prompt, row.salt)

    def add_again(self, row: Row) -> None:
        """One that had begun, before all others."""
        self.add(row)
        self._rows.move_to_end(row.id, last=False)

    def remove(self, row: Row) -> None:
        del self._rows[row.id]
        if row.may_reuse:
            self._prompts.remove(row.prompt, row.salt)

    def partings(self, row: Row) -> list[int]:
        """At which positions of a row's prompt those of others part from it or end, ascending."""
        return self._prompts.partings(row.prompt, row.salt)

    def may_begin(self, at_work: Iterable[Row]) -> Iterator[Row]:
        """The rows whose groups have a place beside those that are at work, oldest first."""
        in_group = Counter(row.request.group for row in at_work)
        for row in self:
            most = row.request.group_rows
            if most is None or in_group[row.request.group] < most:
                yield row
