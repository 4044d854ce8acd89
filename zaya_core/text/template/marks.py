"""Which control tokens of a rendered prompt are the template's own.

Before a template is compiled, every control token in its literals is exchanged for a mark: a short run of characters
that nobody can guess. What people wrote passes through unchanged, and whatever the template does to it, it cannot
become a mark; only marks become control tokens.
"""

from __future__ import annotations

import secrets

from zaya_core.text.control_names import ControlNames, Segment

# CJK extension B: no case, no blank, printable (so `repr` keeps them), changed by no normaliser, hardly ever written.
_MARK_CHARACTERS = range(0x20000, 0x2A6D0)
_MARK_LENGTH = 9


class ControlMarks:
    """The marks of one template. `source`: its text, whose characters no mark takes."""

    def __init__(self, names: ControlNames, source: str) -> None:
        self._names = names
        self._taken = frozenset(source)
        self._lead = self._free_character()
        self._mark_of: dict[str, str] = {}
        self._name_of: dict[str, str] = {}

    def mark(self, text: str) -> str:
        """Exchange every control token of a text that the template's author wrote."""
        return "".join(self._mark(part.text) if part.is_control else part.text for part in self._names.split(text))

    def split(self, text: str) -> list[Segment]:
        """Cut at every mark. A name that is merely spelled out is plain text."""
        segments = []
        start = position = 0
        while (position := text.find(self._lead, position)) >= 0:
            if (name := self._name_of.get(text[position : position + _MARK_LENGTH])) is None:
                position += 1
                continue
            segments += [Segment(text[start:position], False), Segment(name, True)]
            start = position = position + _MARK_LENGTH
        segments.append(Segment(text[start:], False))
        return [segment for segment in segments if segment.text]

    def unmark(self, text: str) -> str:
        """The text with the names instead of the marks."""
        if self._lead not in text:
            return text
        return "".join(segment.text for segment in self.split(text))

    def has_pieces(self, text: str, given: str) -> bool:
        """Whether a mark was cut up: its characters are in the text, and nobody gave them."""
        used = set("".join(self._mark_of.values())).intersection(text) if not text.isascii() else ()
        return any(character not in given for character in used)

    def _mark(self, name: str) -> str:
        if name not in self._mark_of:
            mark = self._lead + "".join(self._free_character() for _ in range(_MARK_LENGTH - 1))
            self._mark_of[name], self._name_of[mark] = mark, name
        return self._mark_of[name]

    def _free_character(self) -> str:
        while (character := chr(secrets.choice(_MARK_CHARACTERS))) in self._taken:
            pass
        return character
