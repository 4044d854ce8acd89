"""What a client asks of the Engine: one request for each choice of an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from zaya_core.engine.events import Event
from zaya_core.engine.request import Request


class Filter(Protocol):
    """Turns the events of one choice into those that its client is told, in the engine thread, right after a step."""

    @property
    def has_stopped(self) -> bool:
        """Whether the choice is complete, so that the Engine need not go on."""
        ...

    def take(self, event: Event) -> list[Event]: ...


@dataclass(frozen=True)
class Job:
    """id: of the answer. requests: one for each choice. filters: likewise, or none. keeps_tokens: whether token events
    are wanted, not only texts. owner: whose key it came with. part_of: the id of the job that has a place for this one,
    and ends with it."""

    id: str
    requests: tuple[Request, ...]
    filters: Sequence[Filter] = ()
    keeps_tokens: bool = False
    owner: str = ""
    part_of: str | None = None
