"""One choice as its events tell it: texts, and the tokens that belong to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from zaya_core.engine.events import Event, Finished, TextEvent, ThinkingEnded, TokenEvent


@dataclass(frozen=True)
class Delta:
    """A piece of text, and the answer's tokens that came since the last one: text is told later than its tokens."""

    kind: Literal["thinking", "answer"]
    text: str
    tokens: tuple[TokenEvent, ...] = ()


class ChoiceReader:
    """State: whether the choice is in its thinking, tokens whose text has not come, how it ended."""

    def __init__(self, markers: Mapping[int | None, bool], in_thinking: bool):
        """markers: ids that begin or end a thought, and whether they begin one."""
        self._markers, self._in_thinking = markers, in_thinking
        self._tokens: list[TokenEvent] = []
        self.thinking_was_cut = False
        self.finished: Finished | None = None

    def take(self, event: Event) -> Delta | None:
        """What an event adds to the text. The last tokens come with an empty one, when the choice has ended."""
        if isinstance(event, TokenEvent):
            self._take_token(event)
        elif isinstance(event, ThinkingEnded):
            self._in_thinking, self.thinking_was_cut = False, event.was_cut
        elif isinstance(event, TextEvent):
            return Delta(event.kind, event.text, self._taken() if event.kind == "answer" else ())
        elif isinstance(event, Finished):
            self.finished = event
            return Delta("answer", "", self._taken()) if self._tokens else None
        return None

    def _take_token(self, event: TokenEvent) -> None:
        """A marker belongs to neither section."""
        if event.token_id in self._markers:
            self._in_thinking = self._markers[event.token_id]
        elif not self._in_thinking:
            self._tokens.append(event)

    def _taken(self) -> tuple[TokenEvent, ...]:
        tokens, self._tokens = tuple(self._tokens), []
        return tokens
