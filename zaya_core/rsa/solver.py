"""Which rollout may start when, with which tails; and the loop that runs them all.

Round 0 asks the plain question N times. Every candidate of a later stage shows C tails of the stage before, drawn
without replacement by a permutation that is keyed by (seed, stage, candidate): the first C of it that have a sound
tail, in the order of the candidates, so that prompts begin alike. What has failed is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zaya_core.errors import NetworkError, UsageError, ZayaError
from zaya_core.rsa.answers import find_answer
from zaya_core.rsa.events import BudgetsShrank, RsaEvent, RunStarted, StageFinished
from zaya_core.rsa.params import PromptSizes, RsaParams, fit_to_context
from zaya_core.rsa.prompt import aggregation_prompt
from zaya_core.rsa.rollouts import Generator, Messages, Rollout, RolloutFinished, RolloutRequest, RolloutReturned
from zaya_core.rsa.selection import Choice, choose, grouped
from zaya_core.sampling import RandomKey, SamplingParams

_SUBSETS = 1 << 63  # a step that no sampled token ever has


def subset_order(seed: int, stage: int, candidate: int, width: int) -> list[int]:
    """The order in which a rollout tries the candidates of the stage before it."""
    key = RandomKey(seed, stage, candidate)
    return sorted(range(width), key=lambda other: key.uniform(_SUBSETS, other))


def aggregation_messages(messages: Messages, tails: Sequence[str]) -> list[dict[str, str]]:
    """The conversation with its last message turned into an aggregation prompt. Raises UsageError without one."""
    _expect_question(messages)
    question = messages[-1]
    return [*map(dict, messages[:-1]), {**question, "content": aggregation_prompt(question["content"], tails)}]


def _expect_question(messages: Messages) -> None:
    if not messages or messages[-1].get("role") != "user" or not messages[-1].get("content", "").strip():
        raise UsageError("RSA needs a question: the last message must be a user's, with text.")


@dataclass(frozen=True)
class RsaResult:
    """The chosen text and how it came about.

    stage: the one whose candidates were asked. is_complete: False when it was stopped before all had ended. error: what
    kept a later stage from any result, as a sentence.
    """

    text: str
    thinking: str
    choice: Choice
    stage: int
    params: RsaParams
    rollouts: tuple[Rollout, ...]
    is_complete: bool
    error: str | None = None


class Solver:
    """The schedule of one problem.

    State: `finished` rollouts by (stage, candidate), which have been handed out, and the stage a share of whose
    candidates agreed already (`stop_at`). Knows no generator: several problems can share one.
    """

    def __init__(self, messages: Messages, params: RsaParams, sampling: SamplingParams, shared: int = 0):
        """params: fitted to the context. Raises UsageError unless the last message is a person's question."""
        _expect_question(messages)
        self.messages = messages
        self.params = params
        self.sampling = sampling
        self.shared = shared
        self.finished: dict[tuple[int, int], Rollout] = {}
        self.agreed_stage: int | None = None
        self._handed_out: set[tuple[int, int]] = set()

    def restore(self, rollouts: Iterable[Rollout]) -> None:
        """Take over the rollouts of an earlier run."""
        for rollout in rollouts:
            self._handed_out.add((rollout.stage, rollout.candidate))
            self.take(rollout)

    def hand_back(self, stage: int, candidate: int) -> None:
        """Note that a rollout was not run: `ready` hands it out again."""
        self._handed_out.discard((stage, candidate))

    def shrink(self, params: RsaParams) -> None:
        """Go on with smaller budgets. Tails that are there are cut in proportion."""
        share, self.params = params.tail / self.params.tail, params
        for key, rollout in self.finished.items():
            self.finished[key] = replace(rollout, tail=rollout.tail[-max(1, int(len(rollout.tail) * share)) :])

    def take(self, rollout: Rollout) -> None:
        """Note a rollout's end."""
        self.finished[rollout.stage, rollout.candidate] = rollout
        share = self.params.stop_at
        if share is not None and self.agreed_stage is None:
            groups = grouped(self.stage_rollouts(rollout.stage))
            largest = max((len(group) for group in groups.values()), default=0)
            if largest >= share * self.params.width(rollout.stage):
                self.agreed_stage = rollout.stage

    def ready(self) -> list[RolloutRequest]:
        """The rollouts that can start now and have not been handed out, in order."""
        found = []
        for stage in range(self.params.stages) if self.agreed_stage is None else ():
            for candidate in range(self.params.width(stage)):
                if (stage, candidate) in self._handed_out:
                    continue
                subset = () if stage == 0 else self._subset(stage, candidate)
                if subset is not None:
                    self._handed_out.add((stage, candidate))
                    found.append(self._request(stage, candidate, subset))
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
        for other in subset_order(self.sampling.seed, stage, candidate, self.params.width(before)):
            if len(chosen) == self.params.tails:
                break
            rollout = self.finished.get((before, other))
            if rollout is None:
                return None
            if other in sound if sound is not None else rollout.is_sound:
                chosen.append(other)
        is_decided = is_whole or len(chosen) == self.params.tails
        return tuple(sorted(chosen)) if chosen and is_decided else None

    def _request(self, stage: int, candidate: int, subset: tuple[int, ...]) -> RolloutRequest:
        tails = [self.finished[stage - 1, other].tail for other in subset]
        return RolloutRequest(
            stage=stage,
            candidate=candidate,
            subset=subset,
            messages=aggregation_messages(self.messages, tails) if tails else self.messages,
            think=self.params.think,
            answer=self.params.answer_budget(stage),
            tail=self.params.tail,
            shared=self.shared,
            sampling=self.sampling,
        )

    def result(self) -> RsaResult:
        """The answer by what has finished. Raises NetworkError, or the like, when nothing has."""
        rollouts = tuple(rollout for _, rollout in sorted(self.finished.items()))
        stage = self.params.last_stage if self.agreed_stage is None else self.agreed_stage
        is_complete = self.agreed_stage is not None or (self.is_stage_complete(stage) and not self._was_stopped)
        candidates = _usable(self.stage_rollouts(stage) if is_complete else self._latest_of_each_candidate())
        if not candidates:
            is_complete, candidates = False, _usable(self._latest_of_each_candidate())
        if not candidates:
            raise NetworkError(_failure(rollouts))
        stage = max(rollout.stage for rollout in candidates)
        choice = choose(candidates, self.params.select, self.params.width(stage))
        text = choice.rollout.answer
        if not text.strip() and choice.answer is not None:
            text = choice.answer.text
        error = None if is_complete or self._was_stopped else _failure(rollouts)
        return RsaResult(text, choice.rollout.thinking, choice, stage, self.params, rollouts, is_complete, error)

    @property
    def _was_stopped(self) -> bool:
        return any(rollout.state == "stopped" for rollout in self.finished.values())

    def _latest_of_each_candidate(self) -> list[Rollout]:
        """For each candidate what came last and had come to its end, or else what there is."""
        latest: dict[int, Rollout] = {}
        for _, rollout in sorted(self.finished.items()):
            if rollout.state != "failed" and (_has_settled(rollout) or rollout.candidate not in latest):
                latest[rollout.candidate] = rollout
        return list(latest.values())


def _usable(rollouts: Iterable[Rollout]) -> list[Rollout]:
    return [one for one in rollouts if one.state != "failed" and (one.answer.strip() or one.thinking.strip())]


def _has_settled(rollout: Rollout) -> bool:
    if rollout.state in ("done", "cut"):
        return True
    answer = find_answer(rollout.answer)
    return rollout.state == "stopped" and answer is not None and answer.kind == "boxed"


def _failure(rollouts: Sequence[Rollout]) -> str:
    errors = [rollout.error for rollout in rollouts if rollout.error]
    return errors[-1] if errors else "None of the rollouts gave any text."


def solve(
    generator: Generator,
    messages: Messages,
    params: RsaParams,
    sampling: SamplingParams | None = None,
    on_event: Callable[[RsaEvent], None] = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    restored: Sequence[Rollout] = (),
    save: Callable[[Sequence[Rollout]], Any] = lambda rollouts: None,
) -> RsaResult:
    """Run Markovian RSA on a conversation that ends in a question.

    sampling: without it the report's (temperature 1, top-p 1, min-p 1e-5, seed 0). should_stop: asked between steps;
    once true, the open rollouts end and the answer is chosen from what there is. save: called after each stage with all
    finished rollouts, which a later call can take as `restored`.

    Raises: UsageError, PromptTooLongError; NetworkError when not one rollout gave any text.
    """
    sampling = sampling or SamplingParams(top_p=1.0)
    sizes = generator.measure(messages, aggregation_messages(messages, [""] * max(1, params.tails)))
    fitted = fit_to_context(params, sizes, generator.context)
    solver = Solver(messages, fitted, sampling, sizes.shared)
    solver.restore(restored)
    on_event(RunStarted(params, fitted, len(solver.finished), sizes, generator.context))
    _Run(generator, solver, on_event, save, params, sizes, generator.context).until_done(should_stop)
    return solver.result()


@dataclass
class _Run:
    """The loop between a schedule and a generator.

    asked, sizes, context: what the schedule's settings were fitted to. State: stages reported, whether the end was
    asked for.
    """

    generator: Generator
    solver: Solver
    on_event: Callable[[RsaEvent], None]
    save: Callable[[Sequence[Rollout]], Any]
    asked: RsaParams
    sizes: PromptSizes
    context: int
    open_rollouts: int = 0
    reported: int = 0
    is_stopping: bool = False

    def until_done(self, should_stop: Callable[[], bool]) -> None:
        self.reported = sum(self.solver.is_stage_complete(stage) for stage in range(self.solver.params.stages))
        try:
            while True:
                if not self.is_stopping:
                    self._submit()
                if self.open_rollouts == 0:
                    return
                for event in self.generator.advance():
                    self._take(event)
                if not self.is_stopping and (self.solver.is_complete or should_stop()):
                    self.is_stopping = True
                    self.generator.stop()
        except ZayaError:
            self.generator.stop()
            raise

    def _submit(self) -> None:
        if self.generator.context < self.context:
            self.context = self.generator.context
            self.solver.shrink(fit_to_context(self.asked, self.sizes, self.context))
            self.on_event(BudgetsShrank(self.asked, self.solver.params, self.sizes, self.context))
        for request in self.solver.ready():
            self.generator.submit(request)
            self.open_rollouts += 1

    def _take(self, event: RsaEvent) -> None:
        if isinstance(event, RolloutFinished):
            self.open_rollouts -= 1
            self.solver.take(event.rollout)
        elif isinstance(event, RolloutReturned):
            self.open_rollouts -= 1
            self.solver.hand_back(event.stage, event.candidate)
        self.on_event(event)
        while self.reported < self.solver.params.stages and self.solver.is_stage_complete(self.reported):
            self._report(self.reported)
            self.reported += 1

    def _report(self, stage: int) -> None:
        rollouts = self.solver.stage_rollouts(stage)
        if not any(rollout.state == "stopped" for rollout in rollouts):
            self.save([rollout for _, rollout in sorted(self.solver.finished.items()) if rollout.stage <= stage])
        choice = choose(rollouts, self.solver.params.select, self.solver.params.width(stage))
        self.on_event(StageFinished(stage, choice))
