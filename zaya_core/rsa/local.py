"""Rollouts by the Engine: the question is prefilled once and forked, and all rollouts share one batch."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from zaya_core.engine.engine import Engine, Request
from zaya_core.engine.events import (
    Event,
    Failed,
    Finished,
    Parked,
    PrefillProgress,
    TextEvent,
    ThinkingEnded,
    TokenEvent,
    Unparked,
)
from zaya_core.rsa.canary import LoopCanary
from zaya_core.rsa.params import PromptSizes
from zaya_core.rsa.rollouts import (
    Messages,
    Rollout,
    RolloutEvent,
    RolloutFinished,
    RolloutMoved,
    RolloutRequest,
    RolloutStarted,
    RolloutState,
    RolloutText,
    reason_of,
)
from zaya_core.rsa.tails import handed_on
from zaya_core.text.known_ids import common_length
from zaya_core.text.splitter import Kind


@dataclass
class _Open:
    """A rollout on its way: what was asked, and its tokens and texts so far."""

    request: RolloutRequest
    is_thinking: bool
    submitted: float = field(default_factory=time.perf_counter)
    started: bool = False
    was_cut: bool = False
    thinking_ids: list[int] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=lambda: {"thinking": "", "answer": ""})
    canary: LoopCanary = field(default_factory=LoopCanary)


class EngineGenerator:
    """A `Generator` on an Engine that nobody else uses meanwhile. State: the open rollouts by request id."""

    def __init__(self, engine: Engine, stop: tuple[str, ...] = ()):
        """stop: strings that end an answer."""
        self.engine = engine
        self.context = engine.context
        self._stop = stop
        self._open: dict[int, _Open] = {}

    def measure(self, question: Messages, aggregation: Messages) -> PromptSizes:
        """See `Generator`; `shared` is where the plain prompt and an aggregation part."""
        plain, longer = map(self.engine.tokenizer.render_chat, (question, aggregation))
        return PromptSizes(len(plain), len(longer), common_length(plain, longer))

    def submit(self, request: RolloutRequest) -> None:
        """Queue a rollout. Raises PromptTooLongError, which no fitted request can meet."""
        ids = self.engine.tokenizer.render_chat(request.messages)
        if self.engine.is_idle:
            # A stage begins. What an earlier one left beyond the question would move the borders of prefill chunks,
            # and a run that was restored would not repeat bit for bit.
            self.engine.prefixes.forget_beyond(ids[: request.shared])
        thinks = self.engine.tokenizer.starts_in_thinking(ids)
        # Tails that were cut inside a word may encode to a few tokens more than they had.
        room = self.engine.context - len(ids)
        think = max(0, min(request.think, room - request.answer - 1))
        engine_request = Request(
            ids=ids,
            sampling=request.sampling,
            max_tokens=think + 1 + request.answer if thinks else think + request.answer,
            stop=self._stop,
            thinking_budget=think,
            answer_budget=request.answer if thinks else None,
            snapshot_at=(request.shared,) if 0 < request.shared < len(ids) else (),
            stage=request.stage,
            candidate=request.candidate,
        )
        self._open[self.engine.submit(engine_request)] = _Open(request, thinks)

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
        row = self._open.get(event.request_id)
        if row is None:
            return []
        if isinstance(event, Failed):
            del self._open[event.request_id]
            return [RolloutFinished(_failed(event.error, row), event.error)]
        stage, candidate = row.request.stage, row.request.candidate
        if isinstance(event, PrefillProgress) and not row.started:
            row.started = True
            return [RolloutStarted(stage, candidate, event.total)]
        if isinstance(event, TokenEvent):
            return self._take_token(event, row)
        if isinstance(event, TextEvent):
            row.texts[event.kind] += event.text
            return [RolloutText(stage, candidate, 0, event.kind, event.text)]
        if isinstance(event, ThinkingEnded):
            row.is_thinking, row.was_cut = False, event.was_cut
        elif isinstance(event, (Parked, Unparked)):
            return [RolloutMoved(stage, candidate, isinstance(event, Parked))]
        elif isinstance(event, Finished):
            del self._open[event.request_id]
            return [RolloutFinished(self._finish(event, row))]
        return []

    def _take_token(self, event: TokenEvent, row: _Open) -> list[RolloutEvent]:
        if row.is_thinking:
            row.thinking_ids.append(event.token_id)
        if row.canary.add(event.token_id):
            self.engine.cancel(event.request_id)
        kind: Kind = "thinking" if row.is_thinking else "answer"
        return [RolloutText(row.request.stage, row.request.candidate, 1, kind, "")]

    def _finish(self, event: Finished, row: _Open) -> Rollout:
        request, stats, state = row.request, event.stats, _state(event, row)
        answer = row.texts["answer"]
        return Rollout(
            stage=request.stage,
            candidate=request.candidate,
            subset=request.subset,
            seed=request.sampling.seed,
            state=state,
            thinking=row.texts["thinking"],
            answer=answer,
            tail=handed_on(request, state, row.thinking_ids, answer, self.engine.tokenizer),
            prompt_tokens=stats.prompt_tokens,
            cached_tokens=stats.cached_tokens,
            thinking_tokens=stats.thinking_tokens,
            completion_tokens=stats.completion_tokens,
            mean_logprob=stats.mean_logprob if stats.completion_tokens else None,
            seconds=time.perf_counter() - row.submitted,
            prompt_seconds=stats.prompt_seconds,
            decode_seconds=stats.decode_seconds,
            answer_was_cut=event.reason == "length" and not row.is_thinking,
        )


def _failed(error: Exception, row: _Open) -> Rollout:
    request = row.request
    key = request.stage, request.candidate, request.subset, request.sampling.seed
    return Rollout(*key, "failed", thinking=row.texts["thinking"], answer=row.texts["answer"], error=reason_of(error))


def _state(event: Finished, row: _Open) -> RolloutState:
    if event.reason == "cancelled":
        return "loop" if row.canary.is_dead else "stopped"
    return "cut" if event.reason == "length" or row.was_cut else "done"
