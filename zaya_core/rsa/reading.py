"""A rollout as a request of the Engine, and what the events of that request make of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

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
from zaya_core.engine.request import Request
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
from zaya_core.text.tokenizer import Tokenizer


def prompt_sizes(tokenizer: Tokenizer, question: Messages, aggregation: Messages) -> PromptSizes:
    """See `Generator.measure`; `shared` is where the plain prompt and an aggregation part."""
    plain, longer = map(tokenizer.render_chat, (question, aggregation))
    return PromptSizes(len(plain), len(longer), common_length(plain, longer))


def engine_request(request: RolloutRequest, ids: list[int], tokenizer: Tokenizer, context: int) -> Request:
    """What the Engine is asked for a rollout whose prompt is `ids`; without stop strings, salt and group."""
    thinks = tokenizer.starts_in_thinking(ids)
    # Tails that were cut inside a word may encode to a few tokens more than they had.
    room = context - len(ids)
    think = max(0, min(request.think, room - request.answer - 1))
    return Request(
        ids=ids,
        sampling=request.sampling,
        max_tokens=think + 1 + request.answer if thinks else think + request.answer,
        thinking_budget=think,
        answer_budget=request.answer if thinks else None,
        snapshot_at=(request.shared,) if 0 < request.shared < len(ids) else (),
        stage=request.stage,
        candidate=request.candidate,
    )


@dataclass
class RolloutReader:
    """A rollout on its way: what was asked, and its tokens and texts so far.

    canary: fed by whoever runs the Engine, so that a loop ends at the same token always.
    """

    request: RolloutRequest
    tokenizer: Tokenizer
    is_thinking: bool
    canary: LoopCanary = field(default_factory=LoopCanary)
    _submitted: float = field(default_factory=time.perf_counter)
    _started: bool = False
    _was_cut: bool = False
    _thinking_ids: list[int] = field(default_factory=list)
    _texts: dict[str, list[str]] = field(default_factory=lambda: {"thinking": [], "answer": []})

    def take(self, event: Event) -> list[RolloutEvent]:
        """What an event of its request tells of it."""
        stage, candidate = self.request.stage, self.request.candidate
        if isinstance(event, Failed):
            return [RolloutFinished(self._failed(event.error), event.error)]
        if isinstance(event, PrefillProgress) and not self._started:
            self._started = True
            return [RolloutStarted(stage, candidate, event.total)]
        if isinstance(event, TokenEvent):
            return [RolloutText(stage, candidate, 1, self._take_token(event), "")]
        if isinstance(event, TextEvent):
            self._texts[event.kind].append(event.text)
            return [RolloutText(stage, candidate, 0, event.kind, event.text)]
        if isinstance(event, ThinkingEnded):
            self.is_thinking, self._was_cut = False, event.was_cut
        elif isinstance(event, (Parked, Unparked)):
            return [RolloutMoved(stage, candidate, isinstance(event, Parked))]
        elif isinstance(event, Finished):
            return [RolloutFinished(self._finish(event))]
        return []

    def _take_token(self, event: TokenEvent) -> Kind:
        if not self.is_thinking:
            return "answer"
        self._thinking_ids.append(event.token_id)
        return "thinking"

    def _finish(self, event: Finished) -> Rollout:
        request, stats, state = self.request, event.stats, self._state(event)
        thinking, answer = map("".join, (self._texts["thinking"], self._texts["answer"]))
        return Rollout(
            stage=request.stage,
            candidate=request.candidate,
            subset=request.subset,
            seed=request.sampling.seed,
            state=state,
            thinking=thinking,
            answer=answer,
            tail=handed_on(request, state, self._thinking_ids, answer, self.tokenizer),
            prompt_tokens=stats.prompt_tokens,
            cached_tokens=stats.cached_tokens,
            thinking_tokens=stats.thinking_tokens,
            completion_tokens=stats.completion_tokens,
            mean_logprob=stats.mean_logprob if stats.completion_tokens else None,
            seconds=time.perf_counter() - self._submitted,
            prompt_seconds=stats.prompt_seconds,
            decode_seconds=stats.decode_seconds,
            answer_was_cut=event.reason == "length" and not self.is_thinking,
        )

    def _failed(self, error: Exception) -> Rollout:
        request = self.request
        key = request.stage, request.candidate, request.subset, request.sampling.seed
        thinking, answer = map("".join, (self._texts["thinking"], self._texts["answer"]))
        return Rollout(*key, "failed", thinking=thinking, answer=answer, error=reason_of(error))

    def _state(self, event: Finished) -> RolloutState:
        if event.reason == "cancelled":
            return "loop" if self.canary.is_dead else "stopped"
        return "cut" if event.reason == "length" or self._was_cut else "done"
