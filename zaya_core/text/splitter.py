"""Token ids of one row → pieces of its thinking and of its answer.

What people see of a generation is decided here and nowhere else: markers, blank lines around them, stop strings.
Knows the tokenizer, not the Engine; pieces carry no request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zaya_core.errors import UsageError
from zaya_core.text.stop_strings import first_stop, held_suffix
from zaya_core.text.token_names import THINK_END, THINK_START
from zaya_core.text.tokenizer import Tokenizer

Kind = Literal["thinking", "answer"]


@dataclass(frozen=True)
class TextPiece:
    """A settled piece of one section."""

    kind: Kind
    text: str


class TextSplitter:
    """Split a stream of ids into thinking and answer.

    `<think>` opens thinking wherever it comes and `</think>` ends it: the ids of these tokens, or for each of them that
    the vocabulary lacks, its text. One that changes nothing, such as a second `</think>`, is dropped. Markers belong to
    no text, nor do the newlines in front of a `</think>` that ends thinking, nor those after a marker, unless they part
    what follows from an earlier piece of its section. Stop strings end the answer only: one inside the thinking would
    leave no answer at all. They are looked for between markers.
    The text does not depend on how it was cut into tokens.

    State: text that may still turn out to be a marker, a stop string or a newline to drop is held back until the
    next ids or `flush` decide.
    """

    def __init__(self, tokenizer: Tokenizer, starts_in_thinking: bool, stop: Sequence[str] = ()) -> None:
        """Raises UsageError for an empty stop string."""
        if isinstance(stop, str) or not all(stop):
            raise UsageError("Stop strings are a list of texts, each of at least one character.")
        self._detokenizer = tokenizer.detokenizer()
        ids = {THINK_START: tokenizer.think_start_id, THINK_END: tokenizer.think_end_id}
        self._by_id = {id_: marker for marker, id_ in ids.items() if id_ is not None}
        self._by_text = [marker for marker, id_ in ids.items() if id_ is None]
        self._stop = tuple(stop)
        self._held = ""
        self._is_after_marker = True  # or at the beginning, and only blanks have come since
        self._ending: dict[Kind, str] = {"thinking": "", "answer": ""}  # the last character of each that was given out
        self.in_thinking = starts_in_thinking
        self.stopped_by: str | None = None

    def push(self, token_id: int) -> list[TextPiece]:
        """Take one id; control ids give no text. After a stop string: nothing more."""
        marker = self._by_id.get(token_id)
        if marker is None:
            return self._take(self._detokenizer.add(token_id))
        return self._take(self._detokenizer.flush()) + self._meet(marker, self._held, "")

    def flush(self) -> list[TextPiece]:
        """The end of the stream: give out what was held back."""
        return self._take(self._detokenizer.flush()) + self._end_section()

    @property
    def _kind(self) -> Kind:
        return "thinking" if self.in_thinking else "answer"

    def _take(self, text: str) -> list[TextPiece]:
        if not text or self.stopped_by is not None:
            return []
        self._held += text
        pieces: list[TextPiece] = []
        while found := self._first_marker():
            at, marker = found
            pieces += self._meet(marker, self._held[:at], self._held[at + len(marker) :])
        return pieces + self._give_out_settled()

    def _first_marker(self) -> tuple[int, str] | None:
        found = [(at, marker) for marker in self._by_text if (at := self._held.find(marker)) >= 0]
        return min(found, default=None)

    def _meet(self, marker: str, before: str, after: str) -> list[TextPiece]:
        """End the text in front of a marker and go on with what is behind it."""
        if self.stopped_by is not None:
            return []
        self._held = before
        if not self._pass_blanks() and not before.strip():
            self._held = ""
        elif self.in_thinking and marker == THINK_END:
            self._held = self._held.rstrip("\n")
        pieces = self._end_section()
        if self.stopped_by is None:
            self._held, self._is_after_marker, self.in_thinking = after, True, marker == THINK_START
        return pieces

    def _end_section(self) -> list[TextPiece]:
        """All that is held: it can no longer become anything else."""
        text, self._held, self._is_after_marker = self._held, "", False
        return self._piece(self._up_to_stop_string(text))

    def _give_out_settled(self) -> list[TextPiece]:
        if self.stopped_by is not None or not self._pass_blanks():
            return []
        text = self._held[: len(self._held) - held_suffix(self._held, self._by_text)]
        if self.in_thinking:
            text = text.rstrip("\n")
        settled = self._up_to_stop_string(text)
        if self.stopped_by is None and not self.in_thinking:
            settled = settled[: len(settled) - held_suffix(settled, self._stop)]
        self._held = "" if self.stopped_by is not None else self._held[len(settled) :]
        return self._piece(settled)

    def _pass_blanks(self) -> bool:
        """Drop newlines after a marker; False while what is held are blanks, or may still become a marker."""
        if self._is_after_marker and self._ending[self._kind] in ("", "\n"):
            self._held = self._held.lstrip("\n")
            body = self._held.lstrip()
            if not body or any(marker.startswith(body) for marker in self._by_text):
                return False
        self._is_after_marker = False
        return True

    def _up_to_stop_string(self, text: str) -> str:
        found = first_stop(text, () if self.in_thinking else self._stop)
        if found is None:
            return text
        at, self.stopped_by = found
        return text[:at]

    def _piece(self, text: str) -> list[TextPiece]:
        if not text:
            return []
        self._ending[self._kind] = text[-1]
        return [TextPiece(self._kind, text)]


def split_text(
    tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[int], stop: Sequence[str] = ()
) -> dict[Kind, str]:
    """The thinking and the answer that `tokens` after `prompt` spell, as the events of their generation joined."""
    splitter = TextSplitter(tokenizer, tokenizer.starts_in_thinking(prompt), stop)
    pieces = [piece for token_id in tokens for piece in splitter.push(token_id)] + splitter.flush()
    kinds: tuple[Kind, ...] = ("thinking", "answer")
    return {kind: "".join(piece.text for piece in pieces if piece.kind == kind) for kind in kinds}
