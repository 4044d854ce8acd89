"""What an answer is told by: chunks of a stream while events come, or one object when all have come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from zaya_core.engine.events import Event, Stats

Chunk = dict[str, Any]


class Teller(Protocol):
    """The events of a job's choices → what the client reads. Ended choices have a Finished; errors are not its own."""

    def begin(self) -> list[Chunk]:
        """Before anything has happened."""
        ...

    def take(self, index: int, event: Event) -> list[Chunk]:
        """Note an event; the chunks that tell of it."""
        ...

    def end(self) -> list[Chunk]:
        """When all choices have ended."""
        ...

    def answer(self) -> Chunk:
        """All of it, in place of chunks."""
        ...


def zaya_json(seed: int, choices: Sequence[Stats], thinking_was_cut: bool) -> dict[str, Any]:
    """Our own figures, which repeat an answer or explain it."""
    seconds = max((stats.queue_seconds for stats in choices), default=0.0)
    return {"seed": seed, "thinking_cut": thinking_was_cut, "queue_ms": round(1000 * seconds, 3)}
