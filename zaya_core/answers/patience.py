"""How long algebra is waited for: not again for a text that took too long three times, and within a budget in all.

Whatever algebra is not asked about counts as different unless the normal forms agree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

_MOST_TIMEOUTS = 5  # worth of time, for all comparisons within one budget
_MOST_TEXTS = 4096  # that are remembered
_ENDED, _UNKNOWN = -1, 0  # what is known of a text before it took too long; afterwards how often it did
_GIVEN_UP = 3  # times: which of two texts was endless is seen when each has met others


class OutOfPatience(Exception):
    """The budget is spent; not a verdict, so that nothing remembers it."""


@dataclass
class _Budget:
    """In units of the longest comparison, so that a patient worker has as much more."""

    left: float = _MOST_TIMEOUTS


_budget: ContextVar[_Budget | None] = ContextVar("budget of algebra", default=None)


@contextlib.contextmanager
def limited_algebra() -> Iterator[None]:
    """Within the block all comparisons together take at most about 5 seconds, without the starts of the process."""
    token = _budget.set(_Budget())
    try:
        yield
    finally:
        _budget.reset(token)


class Patience:
    """What is known of the texts that one worker was asked about."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def allows(self, pair: Sequence[str]) -> bool:
        """Whether a comparison may be tried. Raises OutOfPatience when the budget is spent."""
        if any(self._known.get(text) == _GIVEN_UP for text in pair):
            return False
        budget = _budget.get()
        if budget is not None and budget.left <= 0:
            raise OutOfPatience
        return True

    def note(self, pair: Sequence[str], share: float, has_ended: bool) -> None:
        """Note what a comparison took, as a share of the longest time, and whether it came to an end."""
        if (budget := _budget.get()) is not None:
            budget.left -= share if has_ended else max(share, 1.0)
        for text in pair if has_ended else self._suspects(pair):
            known = self._known.pop(text, _UNKNOWN)
            self._known[text] = _ENDED if has_ended else max(known, _UNKNOWN) + 1
        while len(self._known) > _MOST_TEXTS:
            del self._known[next(iter(self._known))]

    def _suspects(self, pair: Sequence[str]) -> list[str]:
        """The worse known of two: a good formula that meets an endless one must not pay for it."""
        worst = max(self._known.get(text, _UNKNOWN) for text in pair)
        return [text for text in dict.fromkeys(pair) if self._known.get(text, _UNKNOWN) == worst]
