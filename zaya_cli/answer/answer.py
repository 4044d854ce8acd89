"""One prompt's answer as far as it has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from zaya_cli.answer.prompts import Prompt
from zaya_core.engine.events import Event, Failed, Finished, TextEvent, TokenEvent


@dataclass
class Answer:
    """State: the events until now; the last one by what it is."""

    prompt: Prompt
    events: list[Event] = field(default_factory=list)
    tokens: list[TokenEvent] = field(default_factory=list)
    finished: Finished | None = None
    failed: Failed | None = None

    @property
    def has_ended(self) -> bool:
        return self.finished is not None or self.failed is not None

    def take(self, event: Event) -> None:
        """Note what happened."""
        if isinstance(event, TokenEvent):
            self.tokens.append(event)
        elif isinstance(event, Finished):
            self.finished = event
        elif isinstance(event, Failed):
            self.failed = event
        self.events.append(event)

    def text(self, kind: str) -> str:
        """All of the answer ("answer"), or of what was thought before it ("thinking")."""
        return "".join(e.text for e in self.events if isinstance(e, TextEvent) and e.kind == kind)
