"""Ids → text, token by token."""

from __future__ import annotations

import codecs

from zaya_core.text.vocabulary import Vocabulary


class Detokenizer:
    """Text of a growing list of ids: the pieces of `add` and the last `flush` join to `decode` of the list.

    A character is given out when its last byte is there; bytes that can no longer become one are U+FFFD.
    """

    def __init__(self, vocabulary: Vocabulary, skipped: frozenset[int]) -> None:
        self._vocabulary = vocabulary
        self._skipped = skipped
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._drops_space = vocabulary.drops_first_space

    def add(self, id_: int) -> str:
        if id_ in self._skipped:
            return ""
        text = self._utf8.decode(self._vocabulary.bytes_of(id_))
        if self._drops_space and text:
            self._drops_space = False
            return text.removeprefix(" ")
        return text

    def flush(self) -> str:
        """What is left of an unfinished character. More ids may follow."""
        return self._utf8.decode(b"", final=True)
