"""The text of a completion: everything that the tokens spell, thinking and markers included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from zaya_core.engine.events import Event, Finished, TextEvent, ThinkingEnded, TokenEvent
from zaya_core.text.stop_strings import first_stop, held_suffix
from zaya_core.text.tokenizer import Tokenizer


class RawText:
    """A job's `Filter`: its own texts in place of the Engine's, and stop strings that act wherever they come.

    State: text that may still become a stop string, and the one that ended it all.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str], skip_special_tokens: bool):
        self._detokenizer = tokenizer.detokenizer(skip_special_tokens)
        self._stop = tuple(stop)
        self._held = ""
        self._stopped_by: str | None = None

    @property
    def has_stopped(self) -> bool:
        """See `Filter`."""
        return self._stopped_by is not None

    def take(self, event: Event) -> list[Event]:
        """See `Filter`."""
        if isinstance(event, Finished):
            return self._finish(event)
        if isinstance(event, (TextEvent, ThinkingEnded)) or (isinstance(event, TokenEvent) and self.has_stopped):
            return []
        if isinstance(event, TokenEvent):
            return [event, *self._texts(event.request_id, self._detokenizer.add(event.token_id))]
        return [event]

    def _finish(self, event: Finished) -> list[Event]:
        texts = [] if self.has_stopped else self._texts(event.request_id, self._detokenizer.flush(), is_last=True)
        if self.has_stopped:
            event = replace(event, reason="stop", stopped_by=self._stopped_by)
        return [*texts, event]

    def _texts(self, request_id: int, text: str, is_last: bool = False) -> list[Event]:
        """What is settled of the text, up to a stop string."""
        self._held += text
        found = first_stop(self._held, self._stop)
        if found is not None:
            at, self._stopped_by = found
        else:
            at = len(self._held) - (0 if is_last else held_suffix(self._held, self._stop))
        settled, self._held = self._held[:at], self._held[at:]
        return [TextEvent(request_id, "answer", settled)] if settled else []
