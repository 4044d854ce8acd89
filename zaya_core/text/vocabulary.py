"""What a tokenizer needs of a vocabulary, whichever file it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

MOST_BYTES = 100 << 20  # of a vocabulary's file


class Vocabulary(Protocol):
    """One of the two file formats."""

    size: int
    control: Mapping[str, int]  # name → id
    unknown_id: int | None  # a control token that text may give: what the vocabulary cannot spell
    drops_first_space: bool  # decoded text loses one leading space (SentencePiece's dummy prefix)

    def id_of(self, name: str) -> int | None: ...

    def name_of(self, id_: int) -> str | None: ...

    def bytes_of(self, id_: int) -> bytes:
        """The token's share of the text; empty for an id without a token."""
        ...

    def encode(self, text: str, before: str | None, after: str | None, /) -> list[int]:
        """Encode plain text. `before`, `after`: the control token there, "" for more plain text, None for the
        end of everything; it decides about dummy prefixes and about blanks that a control token swallows."""
        ...


def find_control(names: Iterable[str], id_of: Callable[[str], int | None]) -> dict[str, int]:
    """Names that the vocabulary has. A single character (a folder's "\\n" for padding) stays text."""
    return {name: id_ for name in names if len(name) > 1 and (id_ := id_of(name)) is not None}
