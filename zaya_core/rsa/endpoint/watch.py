"""What a rollout has so far, and since when nothing came. Written by its worker, read by the thread that waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from zaya_core.rsa.rollouts import RolloutRequest
from zaya_core.text.splitter import Kind


class Abandoned(Exception):
    """The rollout is no longer wanted."""


@dataclass
class Watch:
    """State: texts by kind, chunks counted, when the last byte came.

    context: to which the request was fitted. last_byte: seconds of `clock`; None before the first request is sent.
    on_text: told of each text. wait: how pauses are spent. abandoned: set when nobody wants the rollout any more.
    """

    request: RolloutRequest
    context: int
    clock: Callable[[], float]
    wait: Callable[[threading.Event, float], object]
    on_text: Callable[[Kind, str], None]
    last_byte: float | None = None
    reported: float = 0.0  # silence that was told
    chunks: int = 0
    texts: dict[Kind, str] = field(default_factory=lambda: {"thinking": "", "answer": ""})
    abandoned: threading.Event = field(default_factory=threading.Event)

    def byte(self) -> None:
        """A request is sent, or something arrives, if only a sign of life. Raises Abandoned."""
        self.last_byte, self.reported = self.clock(), 0.0
        if self.abandoned.is_set():
            raise Abandoned

    def text(self, kind: Kind, text: str) -> None:
        """A chunk of text arrives."""
        self.chunks += 1
        self.texts[kind] += text
        self.on_text(kind, text)

    def pause(self, seconds: float) -> None:
        """Wait, but not when nobody does. Raises Abandoned."""
        self.wait(self.abandoned, seconds)
        if self.abandoned.is_set():
            raise Abandoned

    @property
    def silence(self) -> float:
        """Seconds since the last byte."""
        return 0.0 if self.last_byte is None else self.clock() - self.last_byte
