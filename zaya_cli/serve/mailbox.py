"""What happened to a job, until its client takes it: a slow one gets several pieces of text as one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

from zaya_cli.serve.job import Job
from zaya_core.engine.events import Event, Failed, Finished, PrefillProgress, TextEvent, TokenEvent


@dataclass(frozen=True)
class Notice:
    """What a stream is told beside its answer: whole server-sent events."""

    piece: bytes


Arrival = tuple[int, Event | Notice]
"""The index of a choice, and what happened to it."""


@dataclass
class _Held:
    """Text that waits; joined when it is taken, so that no text is copied for each piece that is added."""

    request_id: int
    kind: Literal["thinking", "answer"]
    pieces: list[str] = field(default_factory=list)

    def event(self) -> TextEvent:
        return TextEvent(self.request_id, self.kind, "".join(self.pieces))


class Mailbox:
    """Belongs to the event loop's thread; it never holds more than the answer.

    State: events by choice that nobody has taken, and which choices have begun and ended. request_ids: the Engine's,
    once it has the job.
    """

    def __init__(self, job: Job):
        self.job = job
        self.request_ids: tuple[int, ...] = ()
        choices = range(len(job.requests))
        self._waiting: list[list[Event | Notice | _Held]] = [[] for _ in choices]
        self._open = set(choices)
        self._begun: set[int] = set()
        self._has_mail = asyncio.Event()

    @property
    def open_choices(self) -> int:
        """How many have not ended."""
        return len(self._open)

    @property
    def unbegun_choices(self) -> int:
        """How many of those wait for a row."""
        return len(self._open - self._begun)

    def put(self, index: int, event: Event | Notice | _Held) -> None:
        """Add what happened to a choice; after its end nothing does."""
        if index not in self._open:
            return
        self._begun.add(index)
        waiting = self._waiting[index]
        if isinstance(event, (Finished, Failed)):
            self._open.discard(index)
        elif isinstance(event, TokenEvent):
            if not self.job.keeps_tokens:
                return
        elif isinstance(event, TextEvent):
            event = self._with_earlier_text(waiting, event)
        elif isinstance(event, PrefillProgress) and waiting and isinstance(waiting[-1], PrefillProgress):
            waiting.pop()
        waiting.append(event)
        self._has_mail.set()

    def end(self, error: Exception) -> None:
        """All choices that are open end with an error."""
        for index in sorted(self._open):
            self.put(index, Failed(-1, error))

    def _with_earlier_text(self, waiting: list[Event | Notice | _Held], event: TextEvent) -> _Held:
        """A text goes behind the tokens that it was made of, so earlier text that still waits moves back to it."""
        place = len(waiting) - 1
        while place >= 0 and isinstance(waiting[place], TokenEvent):
            place -= 1
        last = waiting[place] if place >= 0 else None
        if isinstance(last, _Held) and last.kind == event.kind:
            del waiting[place]
            held = last
        else:
            held = _Held(event.request_id, event.kind)
        held.pieces.append(event.text)
        return held

    async def arrivals(self, silence: float | None = None) -> AsyncIterator[list[Arrival]]:
        """What has come since the last time, until all choices have ended; nothing after `silence` seconds of it."""
        while self._open or self._has_mail.is_set():
            await self._mail(silence)
            yield self._take()

    async def _mail(self, silence: float | None) -> None:
        """Wait for some, at most so long. Not by `wait_for`: before Python 3.12 it may swallow a cancellation."""
        if silence is None:
            await self._has_mail.wait()
            return
        timer = asyncio.get_running_loop().call_later(silence, self._has_mail.set)
        try:
            await self._has_mail.wait()
        finally:
            timer.cancel()

    def _take(self) -> list[Arrival]:
        self._has_mail.clear()
        taken = [
            (index, held.event() if isinstance(held, _Held) else held)
            for index, waiting in enumerate(self._waiting)
            for held in waiting
        ]
        self._waiting = [[] for _ in self._waiting]
        return taken
