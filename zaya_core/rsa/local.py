"""Rollouts by the Engine: the question is prefilled once and forked, and all rollouts share one batch."""

from __future__ import annotations

from dataclasses import replace

from zaya_core.engine.engine import Engine
from zaya_core.engine.events import Event, Failed, Finished, TokenEvent
from zaya_core.rsa.params import PromptSizes
from zaya_core.rsa.reading import RolloutReader, engine_request, prompt_sizes
from zaya_core.rsa.rollouts import Messages, RolloutEvent, RolloutRequest


class EngineGenerator:
    """A `Generator` on an Engine that nobody else uses meanwhile. State: the open rollouts by request id."""

    def __init__(self, engine: Engine, stop: tuple[str, ...] = ()):
        """stop: strings that end an answer."""
        self.engine = engine
        self.context = engine.context
        self._stop = stop
        self._open: dict[int, RolloutReader] = {}

    def measure(self, question: Messages, aggregation: Messages) -> PromptSizes:
        """See `Generator`."""
        return prompt_sizes(self.engine.tokenizer, question, aggregation)

    def submit(self, request: RolloutRequest) -> None:
        """Queue a rollout. Raises PromptTooLongError, which no fitted request can meet."""
        tokenizer = self.engine.tokenizer
        ids = tokenizer.render_chat(request.messages)
        if self.engine.is_idle:
            # A stage begins. What an earlier one left beyond the question would move the borders of prefill chunks,
            # and a run that was restored would not repeat bit for bit.
            self.engine.prefixes.forget_beyond(ids[: request.shared])
        asked = replace(engine_request(request, ids, tokenizer, self.engine.context), stop=self._stop)
        reader = RolloutReader(request, tokenizer, tokenizer.starts_in_thinking(ids))
        self._open[self.engine.submit(asked)] = reader

    def advance(self) -> list[RolloutEvent]:
        """One step of the Engine. Raises what is raised in it and is of no rollout; all are lost then."""
        try:
            return [translated for event in self.engine.step() for translated in self._take(event)]
        except BaseException:
            self.engine.cancel(*self._open)
            self._open.clear()
            while not self.engine.is_idle:
                self.engine.step()
            raise

    def stop(self) -> None:
        """See `Generator`."""
        self.engine.cancel(*self._open)

    def _take(self, event: Event) -> list[RolloutEvent]:
        reader = self._open.get(event.request_id)
        if reader is None:
            return []
        if isinstance(event, (Finished, Failed)):
            del self._open[event.request_id]
        elif isinstance(event, TokenEvent) and reader.canary.add(event.token_id):
            self.engine.cancel(event.request_id)
        return reader.take(event)
