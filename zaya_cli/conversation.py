"""A conversation: messages so far, and the next answer to them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zaya_cli.generation import GenerationSettings
from zaya_core.events import Event, Finished, TextEvent

if TYPE_CHECKING:
    from zaya_core.engine import Engine
    from zaya_core.sampling import SamplingParams

STOPPED = "[stopped]"


@dataclass
class Conversation:
    """State: `messages`, alternating after an optional system message; never two turns of the same role in a row."""

    engine: Engine
    settings: GenerationSettings
    sampling: SamplingParams
    system: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)
    turn: int = 0
    open_request: int | None = None
    stop_requested: bool = False

    def clear(self) -> None:
        """Forget everything but the system message."""
        self.messages.clear()
        self.engine.prefixes.clear()
        self.turn = 0

    def answer(self, text: str) -> Iterator[Event]:
        """Ask and yield the answer's events; both turns are kept when the answer has begun, also a partial one.

        Raises PromptTooLongError, with the conversation as it was.
        """
        first = [{"role": "system", "content": self.system}] if self.system else []
        question = {"role": "user", "content": text}
        request = self.settings.request(
            self.engine.tokenizer, [*first, *self.messages, question], self.sampling, candidate=self.turn, goes_on=True
        )
        self.open_request = self.engine.submit(request)
        if self.stop_requested:
            self.stop()
        texts = {"thinking": "", "answer": ""}
        reason = "cancelled"
        try:
            while not self.engine.is_idle:
                for event in self.engine.step():
                    if isinstance(event, TextEvent):
                        texts[event.kind] += event.text
                    elif isinstance(event, Finished):
                        reason = event.reason
                    yield event
        finally:
            self.engine.cancel(self.open_request)
            self.open_request, self.stop_requested = None, False
            self._keep(question, texts, reason)

    def _keep(self, question: dict[str, str], texts: dict[str, str], reason: str) -> None:
        answer = texts["answer"].strip("\n")
        if not any(texts.values()):
            return  # nothing came: the question can be asked again
        if reason == "cancelled":
            answer = f"{answer}\n{STOPPED}" if answer else STOPPED
        self.messages += [question, {"role": "assistant", "content": answer, "reasoning_content": texts["thinking"]}]
        self.turn += 1

    def stop(self) -> None:
        """Cancel the answer that is being made, or about to be; safe in a signal handler."""
        self.stop_requested = True
        if self.open_request is not None:
            self.engine.cancel(self.open_request)
