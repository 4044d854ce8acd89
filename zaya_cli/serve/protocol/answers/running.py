"""Figures of an answer that has not ended, for chunks that have them each."""

from __future__ import annotations

import time
from typing import Any

from zaya_cli.serve.protocol.answers.usage import speed
from zaya_cli.serve.protocol.asks.telling import Telling
from zaya_core.engine.events import Event, PrefillProgress, TokenEvent


class RunningFigures:
    """State: how many tokens came of all choices, since when, and what was said of their prompt."""

    def __init__(self, telling: Telling, prompt_tokens: int):
        self._telling, self._prompt_tokens = telling, prompt_tokens
        self._cached = self._tokens = 0
        self._first_token: float | None = None

    def take(self, event: Event) -> None:
        """Note an event."""
        if isinstance(event, PrefillProgress):
            self._cached = event.cached
        elif isinstance(event, TokenEvent):
            self._first_token = self._first_token or time.monotonic()
            self._tokens += 1

    def fields(self) -> dict[str, Any]:
        """What a chunk has of them."""
        fields: dict[str, Any] = {}
        if self._telling.has_running_usage:
            fields["usage"] = {
                "prompt_tokens": self._prompt_tokens,
                "completion_tokens": self._tokens,
                "total_tokens": self._prompt_tokens + self._tokens,
            }
        elif self._telling.has_usage:
            fields["usage"] = None
        if self._telling.has_timings:
            fields["timings"] = self._timings()
        return fields

    def _timings(self) -> dict[str, float]:
        seconds = 0.0 if self._first_token is None else time.monotonic() - self._first_token
        prompt = {"cache_n": self._cached, "prompt_n": self._prompt_tokens - self._cached}
        return {**prompt, **speed("predicted", self._tokens, 1000 * seconds)}
