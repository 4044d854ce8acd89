"""The names of control tokens in a text, found as the tokenizer finds them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class Segment(NamedTuple):
    """A stretch of a rendered prompt: the name of one control token, or plain text."""

    text: str
    is_control: bool


class ControlNames:
    """The strings that are control tokens, found in text the way the tokenizer finds them: leftmost, longest."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)  # each of two characters or more, or it could not be halved
        self._lengths = sorted({len(name) for name in self._names}, reverse=True)
        self._first = re.compile("|".join(re.escape(c) for c in sorted({n[0] for n in self._names})) or r"(?!)")

    def find(self, text: str, start: int = 0) -> tuple[int, int] | None:
        """(begin, end) of the first name at or after `start`."""
        # Lengths, not one big alternation: vocabularies with thousands of names made the regex slow at every `<`.
        for match in self._first.finditer(text, start):
            begin = match.start()
            for length in self._lengths:
                if (name := text[begin : begin + length]) in self._names:
                    return begin, begin + len(name)
        return None

    def split(self, text: str) -> list[Segment]:
        """Cut at every name; empty plain stretches are left out."""
        segments = []
        position = 0
        while (found := self.find(text, position)) is not None:
            segments += [Segment(text[position : found[0]], False), Segment(text[found[0] : found[1]], True)]
            position = found[1]
        segments.append(Segment(text[position:], False))
        return [segment for segment in segments if segment.text]

    def halve(self, text: str) -> list[str]:
        """Cut in the middle of every name, so that no piece holds one."""
        pieces = []
        position = 0
        while (found := self.find(text, position)) is not None:
            middle = sum(found) // 2
            pieces.append(text[position:middle])
            position = middle
        return [*pieces, text[position:]]
