"""Texts that end an answer, found in a text that grows."""

from __future__ import annotations

from collections.abc import Sequence


def first_stop(text: str, stops: Sequence[str]) -> tuple[int, str] | None:
    """Where a stop string begins, and which: the one completed first, of two at once the longer."""
    found = [(at + len(stop), at, stop) for stop in stops if (at := text.find(stop)) >= 0]
    if not found:
        return None
    _, at, stop = min(found)
    return at, stop


def held_suffix(text: str, markers: Sequence[str]) -> int:
    """Length of the longest end of `text` that begins a marker: ("a</th", ["</think>"]) → 4."""
    longest = max((len(marker) for marker in markers), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(marker.startswith(text[-length:]) for marker in markers):
            return length
    return 0
