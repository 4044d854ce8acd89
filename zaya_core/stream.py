"""Token ids of one row → pieces of its thinking and of its answer.

What people see of a generation is decided here and nowhere else: markers, blank lines around them, stop strings.
Knows the tokenizer, not the Engine; pieces carry no request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from zaya_core.errors import UsageError
from zaya_core.tokenizer import THINK_END, THINK_START, Tokenizer

Kind = Literal["thinking", "answer"]


@dataclass(frozen=True)
class TextPiece:
    """A settled piece of one section."""

    kind: Kind
    text: str


class TextSplitter:
    """Split a stream of ids into thinking and answer.

    Thinking ends at the id of `</think>`, or at that text where the vocabulary has no such token. A `<think>` at
    the start of either section opens thinking. Markers, the newlines after them and those before `</think>` belong
    to no text. Stop strings end the answer only: one inside the thinking would leave no answer at all.
    The text does not depend on how it was cut into tokens.

    State: text that may still turn out to be a marker, a stop string or a newline to drop is held back until the
    next ids or `flush` decide.
    """

    def __init__(self, tokenizer: Tokenizer, starts_in_thinking: bool, stop: Sequence[str] = ()) -> None:
        """Raises UsageError for an empty stop string."""
        if isinstance(stop, str) or not all(stop):
            raise UsageError("Stop strings are a list of texts, each of at least one character.")
        self._detokenizer = tokenizer.detokenizer()
        self._start_id = tokenizer.think_start_id
        self._end_id = tokenizer.think_end_id
        self._stop = tuple(stop)
        self._held = ""
        self._at_section_start = True
        self.in_thinking = starts_in_thinking
        self.stopped_by: str | None = None

    def push(self, token_id: int) -> list[TextPiece]:
        """Take one id; control ids give no text. After a stop string: nothing more."""
        if self.stopped_by is not None:
            return []
        if token_id == self._end_id:
            return self._meet_think_end()
        if token_id == self._start_id:
            return self._meet_think_start()
        return self._take(self._detokenizer.add(token_id))

    def flush(self) -> list[TextPiece]:
        """The end of the stream: give out what was held back."""
        if self.stopped_by is not None:
            return []
        pieces = self._take(self._detokenizer.flush())
        if self._at_section_start:  # what is held can no longer become a marker, but it can hold a stop string
            self._at_section_start = False
            pieces += self._advance()
        pieces += self._piece(self._held)
        self._held = ""
        return pieces

    def _meet_think_end(self) -> list[TextPiece]:
        pieces = self._take(self._detokenizer.flush())
        if self.in_thinking:
            pieces += self._piece(self._held.rstrip("\n"))
            self._enter(thinking=False, rest="")
        return pieces

    def _meet_think_start(self) -> list[TextPiece]:
        pieces = self._take(self._detokenizer.flush())
        if self._at_section_start and not self._held.strip():
            self._enter(thinking=True, rest="")
        return pieces

    def _enter(self, thinking: bool, rest: str) -> None:
        self.in_thinking = thinking
        self._at_section_start = True
        self._held = rest

    def _take(self, text: str) -> list[TextPiece]:
        if not text:
            return []
        self._held += text
        return self._advance() if self._pass_section_start() else []

    def _pass_section_start(self) -> bool:
        """Drop newlines and an opening `<think>`; False while what is held may still become one."""
        while self._at_section_start:
            self._held = self._held.lstrip("\n")
            body = self._held.lstrip()
            if self._start_id is None and body.startswith(THINK_START):
                self._enter(thinking=True, rest=body[len(THINK_START) :])
            elif not body or (self._start_id is None and THINK_START.startswith(body)):
                return False
            else:
                self._at_section_start = False
        return True

    def _advance(self) -> list[TextPiece]:
        return self._advance_thinking() if self.in_thinking else self._advance_answer()

    def _advance_thinking(self) -> list[TextPiece]:
        before, marker, after = self._held.partition(THINK_END) if self._end_id is None else (self._held, "", "")
        if marker:
            pieces = self._piece(before.rstrip("\n"))
            self._enter(thinking=False, rest="")
            return pieces + self._take(after)
        partial = _held_suffix(self._held, [THINK_END]) if self._end_id is None else 0
        settled = self._held[: len(self._held) - partial].rstrip("\n")
        self._held = self._held[len(settled) :]
        return self._piece(settled)

    def _advance_answer(self) -> list[TextPiece]:
        # The string completed first wins, whatever the tokens; of two completed at once, the longer.
        found = [(at + len(stop), at, stop) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            _, at, self.stopped_by = min(found)
            settled, self._held = self._held[:at], ""
        else:
            cut = len(self._held) - _held_suffix(self._held, self._stop)
            settled, self._held = self._held[:cut], self._held[cut:]
        return self._piece(settled)

    def _piece(self, text: str) -> list[TextPiece]:
        return [TextPiece("thinking" if self.in_thinking else "answer", text)] if text else []


def split_text(
    tokenizer: Tokenizer, prompt: Sequence[int], tokens: Sequence[int], stop: Sequence[str] = ()
) -> dict[Kind, str]:
    """The thinking and the answer that `tokens` after `prompt` spell, as the events of their generation joined."""
    splitter = TextSplitter(tokenizer, tokenizer.starts_in_thinking(prompt), stop)
    pieces = [piece for token_id in tokens for piece in splitter.push(token_id)] + splitter.flush()
    kinds: tuple[Kind, ...] = ("thinking", "answer")
    return {kind: "".join(piece.text for piece in pieces if piece.kind == kind) for kind in kinds}


def _held_suffix(text: str, markers: Sequence[str]) -> int:
    """Length of the longest end of `text` that begins a marker: ("a</th", ["</think>"]) → 4."""
    longest = max((len(marker) for marker in markers), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(marker.startswith(text[-length:]) for marker in markers):
            return length
    return 0
