"""How wide, how deep and how long: the settings of a run, and what of them a model's context can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from zaya_core.errors import PromptTooLongError, UsageError
from zaya_core.whole_numbers import is_whole

Select = Literal["agreement", "first", "aggregate"]
Pass = Literal["tail", "answer", "auto"]

LEAST_BUDGET = 16  # tokens; less than this is no thought, no tail and no answer
LEAST: Mapping[str, int] = MappingProxyType(
    {"candidates": 1, "rounds": 0, "subset": 1, "think": 1, "tail": 1, "answer": 1}
)
MOST = 1 << 20  # of each of these
_TAIL_OVERHEAD = 2  # a text that was cut between tokens may encode to a few more


@dataclass(frozen=True)
class RsaParams:
    """The report's letters: candidates N, rounds T, subset C, think beta, tail tau. Budgets are tokens.

    answer: tokens after the thinking, in the last stage (in every stage with `stop_at`). stop_at: end early when this
    share of a stage's candidates agrees. pipelined: a candidate starts as soon as its own tails exist; otherwise all
    wait for the stage before. passes: what a candidate hands on: the tail of its thought, its answer (the tail while
    there is none), or auto, its answer if its thought ended by itself, else the tail; an answer that is handed on has
    at most `tail` tokens. Raises UsageError.
    """

    candidates: int = 8
    rounds: int = 2
    subset: int = 4
    think: int = 16_384
    tail: int = 4_096
    answer: int = 8_192
    select: Select = "agreement"
    stop_at: float | None = None
    pipelined: bool = False
    passes: Pass = "tail"

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            value = getattr(self, name)
            if not is_whole(value) or not least <= value <= MOST:
                raise UsageError(f"RSA's {name} is {value}; it must be a whole number, {least} or more.")
        if self.select not in ("agreement", "first", "aggregate"):
            raise UsageError(f"RSA's select is {self.select!r}; it must be agreement, first or aggregate.")
        if self.passes not in ("tail", "answer", "auto"):
            raise UsageError(f"RSA's passes is {self.passes!r}; it must be tail, answer or auto.")
        if self.stop_at is not None and not 0 < self.stop_at <= 1:
            raise UsageError(f"RSA's stop-at share is {self.stop_at}; it must be above 0 and at most 1.")

    @property
    def tails(self) -> int:
        """Tails in a prompt: C, capped at N."""
        return min(self.subset, self.candidates)

    @property
    def stages(self) -> int:
        """Stages of generation: T + 1, and one more when a last rollout aggregates the answers."""
        return self.rounds + 1 + (self.select == "aggregate")

    @property
    def last_stage(self) -> int:
        return self.stages - 1

    def width(self, stage: int) -> int:
        """Rollouts of a stage."""
        return 1 if stage > self.rounds else self.candidates

    def answer_budget(self, stage: int) -> int:
        """Tokens after the thinking; 0 where the thinking is all that is needed."""
        if stage == self.last_stage or self.stop_at is not None:
            return self.answer
        return 0 if self.passes == "tail" else min(self.answer, self.tail)

    @property
    def rollouts(self) -> int:
        """N * (T + 1), and the last one of `aggregate`."""
        return sum(self.width(stage) for stage in range(self.stages))

    @property
    def typical_tokens(self) -> int:
        """What a run generates if thoughts use their budgets as they did in the report: 440K of 48 times 16K."""
        return int(0.56 * self.think * self.rollouts)

    @property
    def most_tokens(self) -> int:
        """What a run generates at most."""
        return sum(self.width(stage) * (self.think + self.answer_budget(stage)) for stage in range(self.stages))


# The technical report's runs, IV-B1: the light one, the recommended deployment, the ceiling, and the one with which it
# reached its best score on APEX; 40K for the last response.
PRESETS: Mapping[str, RsaParams] = MappingProxyType(
    {
        "light": RsaParams(candidates=8, think=8_192, answer=40_960),
        "default": RsaParams(candidates=16, think=16_384, answer=40_960),
        "high": RsaParams(candidates=16, think=40_960, answer=40_960),
        "xhigh": RsaParams(candidates=32, rounds=8, think=32_768, answer=40_960),
    }
)


@dataclass(frozen=True)
class PromptSizes:
    """Tokens of a problem's prompts: the plain one, an aggregation of empty tails, and what both begin with."""

    question: int
    aggregation: int
    shared: int


def fit_to_context(params: RsaParams, sizes: PromptSizes, context: int) -> RsaParams:
    """The same settings with budgets that `context` positions hold: prompt + C * tail + think + answer.

    All three budgets shrink in the same proportion. Raises PromptTooLongError for a question that leaves no room.
    """
    tail = min(params.tail, params.think)
    tails = params.tails if params.stages > 1 else 0
    prompt = max(sizes.question, sizes.aggregation + tails * _TAIL_OVERHEAD if tails else 0)
    wanted = tails * tail + params.think + params.answer
    room = context - prompt
    if wanted <= room:
        return replace(params, tail=tail)
    if room < (tails + 2) * LEAST_BUDGET:
        raise PromptTooLongError(
            f"The question takes {sizes.question:,} tokens and the context is {context:,}: {max(room, 0):,} are left "
            f"for {tails} tails, the thinking and the answer of RSA. Shorten the question."
        )
    share = room / wanted
    tail, answer = (max(LEAST_BUDGET, int(budget * share)) for budget in (tail, params.answer))
    answer = min(answer, params.answer)
    tail = min(tail, params.tail)
    return replace(params, tail=tail, answer=answer, think=max(1, min(params.think, room - tails * tail - answer)))
