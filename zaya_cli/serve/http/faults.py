"""Faults of the event loop that belong to no request, such as no file left for a new connection: a line each, and the
same line once in a while, since asyncio tries again and again."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from zaya_cli.failures import show_traceback
from zaya_cli.serve.notes import tell
from zaya_cli.system_errors import system_sentence

_SILENCE = 10.0  # seconds in which a line is not repeated


class LoopFaults:
    """The handler of a loop. State: when each line was told last."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        line = f"zaya: {_words(error)}"
        if time.monotonic() - self._told.get(line, -_SILENCE) < _SILENCE:
            return
        self._told[line] = time.monotonic()
        tell(line)
        if error is not None:
            show_traceback(error)


def _words(error: BaseException | None) -> str:
    """Of an error that nobody foresaw the kind alone: its own words may be a client's."""
    if error is None:
        return "the server had a fault between two requests; it goes on."
    return (
        system_sentence(error) or f"the server had a fault between two requests ({type(error).__name__}); it goes on."
    )
