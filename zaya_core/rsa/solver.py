"""Which rollout may start when, with which tails; and the loop that runs them all.

Round 0 asks the plain question N times. Every candidate of a later stage shows C tails of the stage before, drawn
without replacement by a permutation that is keyed by (seed, stage, candidate): the first C of it that have a sound
tail, in the order of the candidates, so that prompts begin alike. What has failed is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zaya_core.answers import find_answer
from zaya_core.errors import GenerationError, NetworkError, UsageError, ZayaError
from zaya_core.rsa.events import BudgetsShrank, RsaEvent, RunStarted, StageFinished
from zaya_core.rsa.params import PromptSizes, RsaParams, fit_to_context
from zaya_core.rsa.prompt import Prompt, aggregation_prompt
from zaya_core.rsa.rollouts import (
    Generator,
    Messages,
    Rollout,
    RolloutEvent,
    RolloutFinished,
    RolloutRequest,
    RolloutReturned,
    reason_of,
)
from zaya_core.rsa.selection import Choice, Worth, choose, grouped, worth_of
from zaya_core.sampling.params import RandomKey, SamplingParams

_SUBSETS = 1 << 63  # a step that no sampled token ever has
_MOST_REASONS = 3  # in a sentence


def subset_order(seed: int, stage: int, candidate: int, width: int) -> list[int]:
    """The order in which a rollout tries the candidates of the stage before it."""
    key = RandomKey(seed, stage, candidate)
    return sorted(range(width), key=lambda other: key.uniform(_SUBSETS, other))


def aggregation_messages(
    messages: Messages, tails: Sequence[str], prompt: Prompt = aggregation_prompt
) -> list[dict[str, str]]:
    """The conversation with its last message turned into an aggregation prompt. Raises UsageError without one."""
    _expect_question(messages)
    question = messages[-1]
    return [*map(dict, messages[:-1]), {**question, "content": prompt(question["content"], tails)}]


def _expect_question(messages: Messages) -> None:
    if not messages or messages[-1].get("role") != "user" or not messages[-1].get("content", "").strip():
        raise UsageError("RSA needs a question: the last message must be a user's, with text.")


@dataclass(frozen=True)
class RsaResult:
    """The chosen text and how it came about. text: empty when no candidate has come to an answer or a text to show.

    stage: the last one of those whose candidates were asked; an earlier one than the run's last where that came to
    nothing. is_complete: False when it was stopped before all had ended. error: what kept a later stage from any
    result, as a sentence; cause: the exception behind it, where a generator raised one.
    """

    text: str
    thinking: str
    choice: Choice
    stage: int
    params: RsaParams
    rollouts: tuple[Rollout, ...]
    is_complete: bool
    error: str | None = None
    cause: ZayaError | None = None


class Solver:
    """The schedule of one problem.

    State: `finished` rollouts by (stage, candidate), which have been handed out, the stage a share of whose candidates
    agreed already (`stop_at`), and what `ready` need not work out again. Knows no generator: several problems can share
    one.
    """

    def __init__(
        self,
        messages: Messages,
        params: RsaParams,
        sampling: SamplingParams,
        shared: int = 0,
        prompt: Prompt = aggregation_prompt,
        last_sampling: SamplingParams | None = None,
    ):
        """params: fitted to the context; prompt, last_sampling: see `solve`.

        Raises UsageError unless the last message is a person's question.
        """
        _expect_question(messages)
        self.messages = messages
        self.params = params
        self.sampling = sampling
        self.last_sampling = last_sampling or sampling
        self.shared = shared
        self.prompt = prompt
        self.finished: dict[tuple[int, int], Rollout] = {}
        self.agreed_stage: int | None = None
        self._handed_out: set[tuple[int, int]] = set()
        self._orders: dict[tuple[int, int], list[int]] = {}
        self._has_changed = True  # since `ready` was asked, as it is after each step of a generator

    def restore(self, rollouts: Iterable[Rollout]) -> None:
        """Take over the rollouts of an earlier run."""
        for rollout in rollouts:
            self._handed_out.add((rollout.stage, rollout.candidate))
            self.take(rollout)

    def hand_back(self, stage: int, candidate: int) -> None:
        """Note that a rollout was not run: `ready` hands it out again."""
        self._handed_out.discard((stage, candidate))
        self._has_changed = True

    def shrink(self, params: RsaParams) -> None:
        """Go on with smaller budgets. Tails that are there are cut in proportion."""
        share, self.params = params.tail / self.params.tail, params
        self._has_changed = True
        for key, rollout in self.finished.items():
            self.finished[key] = replace(rollout, tail=rollout.tail[-max(1, int(len(rollout.tail) * share)) :])

    def take(self, rollout: Rollout) -> None:
        """Note a rollout's end."""
        self._has_changed = True
        self.finished[rollout.stage, rollout.candidate] = rollout
        share = self.params.stop_at
        if share is not None and self.agreed_stage is None:
            groups = grouped(self.stage_rollouts(rollout.stage))
            largest = max((len(group) for group in groups.values()), default=0)
            if largest >= share * self.params.width(rollout.stage):
                self.agreed_stage = rollout.stage

    def ready(self) -> list[RolloutRequest]:
        """The rollouts that can start now and have not been handed out, in order."""
        found: list[RolloutRequest] = []
        if not self._has_changed:
            return found
        for stage in range(self.params.stages) if self.agreed_stage is None else ():
            for candidate in range(self.params.width(stage)):
                if (stage, candidate) in self._handed_out:
                    continue
                subset = () if stage == 0 else self._subset(stage, candidate)
                if subset is not None:
                    self._handed_out.add((stage, candidate))
                    found.append(self._request(stage, candidate, subset))
        self._has_changed = False
        return found

    def stage_rollouts(self, stage: int) -> list[Rollout]:
        """The finished rollouts of a stage, by candidate."""
        return [rollout for (at, _), rollout in sorted(self.finished.items()) if at == stage]

    def is_stage_complete(self, stage: int) -> bool:
        return len(self.stage_rollouts(stage)) == self.params.width(stage)

    def has_stage_failed(self, stage: int) -> bool:
        """Whether a stage is complete and nothing of it can be used."""
        return self.is_stage_complete(stage) and not self._sound(stage)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.agreed_stage is not None or self.is_stage_complete(self.params.last_stage) or self._is_stuck

    @property
    def _is_stuck(self) -> bool:
        return any(self.has_stage_failed(stage) for stage in range(self.params.last_stage))

    def _sound(self, stage: int) -> list[Rollout]:
        """What can be shown to the next stage; rollouts that ran in a loop only where there is nothing better."""
        rollouts = self.stage_rollouts(stage)
        sound = [rollout for rollout in rollouts if rollout.is_sound]
        return sound or [rollout for rollout in rollouts if rollout.state == "loop" and rollout.tail.strip()]

    def _subset(self, stage: int, candidate: int) -> tuple[int, ...] | None:
        """Whose tails the rollout shows, None while that is not decided or when there are none."""
        before = stage - 1
        is_whole = self.is_stage_complete(before)
        if not is_whole and not self.params.pipelined:
            return None
        sound = {rollout.candidate for rollout in self._sound(before)} if is_whole else None
        chosen: list[int] = []
        for other in self._order(stage, candidate):
            if len(chosen) == self.params.tails:
                break
            rollout = self.finished.get((before, other))
            if rollout is None:
                return None
            if other in sound if sound is not None else rollout.is_sound:
                chosen.append(other)
        is_decided = is_whole or len(chosen) == self.params.tails
        return tuple(sorted(chosen)) if chosen and is_decided else None

    def _order(self, stage: int, candidate: int) -> list[int]:
        """`subset_order`, worked out once: it is asked for again with each rollout that ends."""
        if (order := self._orders.get((stage, candidate))) is None:
            order = subset_order(self.sampling.seed, stage, candidate, self.params.width(stage - 1))
            self._orders[stage, candidate] = order
        return order

    def _request(self, stage: int, candidate: int, subset: tuple[int, ...]) -> RolloutRequest:
        tails = [self.finished[stage - 1, other].tail for other in subset]
        return RolloutRequest(
            stage=stage,
            candidate=candidate,
            subset=subset,
            messages=aggregation_messages(self.messages, tails, self.prompt) if tails else self.messages,
            think=self.params.think,
            answer=self.params.answer_budget(stage),
            tail=self.params.tail,
            shared=self.shared,
            sampling=self.last_sampling if stage > self.params.rounds else self.sampling,
            passes=self.params.passes,
        )

    def result(self) -> RsaResult:
        """The answer by what has finished. Raises NetworkError with the reasons when no rollout gave any text."""
        rollouts = tuple(rollout for _, rollout in sorted(self.finished.items()))
        last = self.params.last_stage if self.agreed_stage is None else self.agreed_stage
        has_ended = self.agreed_stage is not None or (self.is_stage_complete(last) and not self._was_stopped)
        is_complete = has_ended and any(rollout.state != "failed" for rollout in self.stage_rollouts(last))
        candidates = self._last_words(self.stage_rollouts(last) if is_complete else [])
        choice = self._choice(candidates) if candidates else self._nothing_to_show(rollouts)
        text = choice.rollout.answer if candidates else ""
        if not text.strip() and choice.answer is not None:
            text = choice.answer.text
        error = None if is_complete or self._was_stopped else reasons_of(rollouts)
        stage = max((rollout.stage for rollout in candidates), default=choice.rollout.stage)
        return RsaResult(text, choice.rollout.thinking, choice, stage, self.params, rollouts, is_complete, error)

    def _choice(self, candidates: Sequence[Rollout]) -> Choice:
        stage = max(rollout.stage for rollout in candidates)
        is_earlier_round = self.params.select == "aggregate" and stage <= self.params.rounds
        return choose(candidates, "agreement" if is_earlier_round else self.params.select, self.params.width(stage))

    def _nothing_to_show(self, rollouts: Sequence[Rollout]) -> Choice:
        """The furthest rollout, for the record. Raises NetworkError when none gave any text."""
        written = [one for one in rollouts if one.state != "failed" and (one.answer + one.thinking).strip()]
        if not written:
            raise NetworkError(reasons_of(rollouts) or "None of the rollouts gave any text.")
        furthest = max(written, key=lambda one: (one.state in ("done", "cut"), one.stage, -one.candidate))
        return Choice(furthest, None, 0, self.params.width(furthest.stage))

    @property
    def _was_stopped(self) -> bool:
        return any(rollout.state == "stopped" for rollout in self.finished.values())

    def _last_words(self, last: Sequence[Rollout]) -> list[Rollout]:
        """The rollouts to choose from: those of the complete last stage, where there is something to show among them.

        Else what came last of each candidate: answers; where these do not agree, rather a text of the last stage that
        is whole, if its thought was closed; then what was cut.
        """
        best = min(map(worth_of, last), default=Worth.NOTHING)
        if best <= Worth.ENDED:
            return list(last)
        latest = self._latest_of_each_candidate(Worth.ENDED)
        agreeing = max(map(len, grouped(latest).values()), default=0)
        if latest and (agreeing > 1 or best > Worth.CLOSED):
            return latest
        found = (self._latest_of_each_candidate(worth) for worth in (Worth.CLOSED, Worth.CUT, Worth.REPEATED))
        return next(filter(None, found), latest)

    def _latest_of_each_candidate(self, least: Worth) -> list[Rollout]:
        """For each candidate what came last of that which had come to its end and is worth so much, if there is any."""
        latest = {
            rollout.candidate: rollout
            for _, rollout in sorted(self.finished.items())
            if _has_settled(rollout) and worth_of(rollout) <= least
        }
        return list(latest.values())


def _has_settled(rollout: Rollout) -> bool:
    if rollout.state in ("done", "cut"):
        return True
    answer = find_answer(rollout.answer)
    return rollout.state == "stopped" and answer is not None and answer.kind == "boxed"


def reasons_of(rollouts: Iterable[Rollout]) -> str | None:
    """Why rollouts failed, each reason once; None where none did."""
    reasons = list(dict.fromkeys(rollout.error for rollout in rollouts if rollout.error))
    return "; ".join(reasons[-_MOST_REASONS:]) or None


def solve(
    generator: Generator,
    messages: Messages,
    params: RsaParams,
    sampling: SamplingParams | None = None,
    on_event: Callable[[RsaEvent], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    restored: Sequence[Rollout] = (),
    save: Callable[[Sequence[Rollout]], Any] = lambda rollouts: None,
    prompt: Prompt = aggregation_prompt,
    last_sampling: SamplingParams | None = None,
) -> RsaResult:
    """Run Markovian RSA on a conversation that ends in a question.

    sampling: without it the report's (temperature 1, top-p 1, min-p 1e-5, seed 0). should_stop: asked between steps;
    once true, the open rollouts end and the answer is chosen from those that had ended. save: called after each stage
    with all finished rollouts, which a later call can take as `restored`. prompt: the wording of an aggregation prompt.
    last_sampling: of the one rollout that `aggregate` adds, without it `sampling`.

    What a generator raises fails the rollouts that it loses by it, with the reason; the others go on.

    Raises: UsageError, PromptTooLongError; when not one rollout gave any text, what the generator raised, if that is
    one ZayaError, GenerationError with the reasons if it is more or something else, NetworkError if it raised nothing.
    """
    sampling = sampling or SamplingParams(top_p=1.0)
    sizes = generator.measure(messages, aggregation_messages(messages, [""] * max(1, params.tails), prompt))
    fitted = fit_to_context(params, sizes, generator.context)
    solver = Solver(messages, fitted, sampling, sizes.shared, prompt, last_sampling)
    solver.restore(restored)
    on_event(RunStarted(params, fitted, len(solver.finished), sizes, generator.context))
    run = _Run(generator, solver, on_event, save, params, sizes, generator.context)
    run.until_done(should_stop)
    return run.result()


@dataclass
class _Run:
    """The loop between a schedule and a generator.

    asked, sizes, context: what the schedule's settings were fitted to. State: the open rollouts, the stages reported,
    whether the end was asked for, what was raised, what of that has not been laid to any rollout yet, and what kept a
    stage from being asked for.
    """

    generator: Generator
    solver: Solver
    on_event: Callable[[RsaEvent], None]
    save: Callable[[Sequence[Rollout]], Any]
    asked: RsaParams
    sizes: PromptSizes
    context: int
    open: dict[tuple[int, int], RolloutRequest] = field(default_factory=dict)
    reported: int = 0
    is_stopping: bool = False
    raised: list[Exception] = field(default_factory=list)
    losses: list[Exception] = field(default_factory=list)
    broken: ZayaError | None = None

    def until_done(self, should_stop: Callable[[], bool]) -> None:
        self.reported = sum(self.solver.is_stage_complete(stage) for stage in range(self.solver.params.stages))
        try:
            while True:
                if not self.is_stopping:
                    self._submit()
                if not self.open:
                    return
                for event in self._advance():
                    self._take(event)
                if not self.is_stopping and (self.solver.is_complete or should_stop()):
                    self._stop()
        except Exception:
            self.generator.stop()
            raise

    def result(self) -> RsaResult:
        """See `Solver.result`; with what the generator raised where that is why there is none, or less."""
        try:
            result = self.solver.result()
        except NetworkError as error:
            if not self.raised:
                raise
            raise _as_one(self.raised, str(error)) from self.raised[-1]
        if self.broken is not None:
            return replace(result, error=str(self.broken), cause=self.broken)
        if not self.raised or result.error is None:
            return result
        return replace(result, cause=_as_one(self.raised, result.error))

    def _stop(self) -> None:
        self.is_stopping = True
        self.generator.stop()

    def _submit(self) -> None:
        while requests := self._ready():
            for request in requests:
                self.open[request.stage, request.candidate] = request
                try:
                    self.generator.submit(request)
                except Exception as error:
                    self._fail([request], error)

    def _ready(self) -> list[RolloutRequest]:
        try:
            self._fit_again()
            return self.solver.ready()
        except ZayaError as error:  # no room, or a template of somebody's that has met texts which it cannot show
            self.raised.append(error)
            self.broken = error
            self._stop()
            return []

    def _fit_again(self) -> None:
        """Shrink what is still to come where the generator's context turned out to be smaller."""
        if self.generator.context < self.context:
            self.context = self.generator.context
            self.solver.shrink(fit_to_context(self.asked, self.sizes, self.context))
            self.on_event(BudgetsShrank(self.asked, self.solver.params, self.sizes, self.context))

    def _advance(self) -> list[RolloutEvent]:
        """One step of the generator. After an exception it may still have some of the open rollouts: it is asked until
        it gives nothing, or raises as often as there are any; those that remain have failed."""
        try:
            events = self.generator.advance()
        except Exception as error:
            self.losses.append(error)
            events = []
            if len(self.losses) < len(self.open):
                return []
        if self.losses and not events:
            self._fail(list(self.open.values()), *self.losses)
            self.losses.clear()
        return events

    def _fail(self, requests: Sequence[RolloutRequest], *errors: Exception) -> None:
        self.raised += errors
        reason = "; ".join(dict.fromkeys(map(reason_of, errors)))
        for request in requests:
            key = request.stage, request.candidate, request.subset, request.sampling.seed
            self._take(RolloutFinished(Rollout(*key, "failed", error=reason)))

    def _take(self, event: RsaEvent) -> None:
        if isinstance(event, RolloutFinished):
            if self.open.pop((event.rollout.stage, event.rollout.candidate), None) is None:
                return  # it was given up
            if not self.open:
                self.losses.clear()
            if event.cause is not None:
                self.raised.append(event.cause)
            self.solver.take(event.rollout)
        elif isinstance(event, RolloutReturned):
            self.open.pop((event.stage, event.candidate), None)
            self.solver.hand_back(event.stage, event.candidate)
        self.on_event(event)
        while self.reported < self.solver.params.stages and self.solver.is_stage_complete(self.reported):
            self._report(self.reported)
            self.reported += 1

    def _report(self, stage: int) -> None:
        """Keep and tell a stage that has come to its end; what failed as a whole is to be repeated."""
        rollouts = self.solver.stage_rollouts(stage)
        if any(rollout.state == "stopped" for rollout in rollouts):
            return
        if any(rollout.state != "failed" for rollout in rollouts):
            self.save([rollout for _, rollout in sorted(self.solver.finished.items()) if rollout.stage <= stage])
        self.on_event(
            StageFinished(stage, choose(rollouts, self.solver.params.select, self.solver.params.width(stage)))
        )


def _as_one(raised: Sequence[Exception], reasons: str) -> ZayaError:
    """What a generator raised, as one error for people."""
    kinds = {(type(error), str(error)) for error in raised}
    if len(kinds) == 1 and isinstance(raised[-1], ZayaError):
        return raised[-1]
    return GenerationError(reasons)
