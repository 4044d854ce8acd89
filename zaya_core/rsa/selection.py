"""Which candidate's answer to show: the one most of them agree on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from zaya_core.answers import Answer, find_answer, limited_algebra
from zaya_core.rsa.canary import repeats_itself
from zaya_core.rsa.params import Select
from zaya_core.rsa.rollouts import Rollout


class Worth(IntEnum):
    """What can be shown of a rollout, best first.

    Its answer; without one a text that ended by itself, one after a thought that was closed, one that was cut, one that
    repeats itself and yet ended. A loop that a limit ended is nothing.
    """

    ANSWERED = 0
    ENDED = 1
    CLOSED = 2
    CUT = 3
    REPEATED = 4
    NOTHING = 5


@dataclass(frozen=True)
class Choice:
    """The chosen rollout, its answer if it has one, and how many of `total` gave the same."""

    rollout: Rollout
    answer: Answer | None
    agreeing: int
    total: int


def answer_of(rollout: Rollout) -> Answer | None:
    """The answer that its final text gives; while there is none, the one its thinking has come to.

    Of a text that was cut while it repeated itself only what it had put into a box counts.
    """
    if rollout.state in ("failed", "loop"):
        return None
    text = rollout.answer if rollout.answer.strip() else rollout.thinking
    answer = find_answer(text)
    is_accident = answer is not None and answer.kind != "boxed" and rollout.state != "done" and repeats_itself(text)
    return None if is_accident else answer


def worth_of(rollout: Rollout) -> Worth:
    """See `Worth`; a thought without an answer in it is nothing to show."""
    if answer_of(rollout) is not None:
        return Worth.ANSWERED
    if rollout.state in ("failed", "loop") or not rollout.answer.strip():
        return Worth.NOTHING
    has_ended = rollout.state == "done"
    if repeats_itself(rollout.answer):
        return Worth.REPEATED if has_ended else Worth.NOTHING
    if has_ended:
        return Worth.ENDED
    return Worth.CLOSED if rollout.state == "cut" and not rollout.answer_was_cut else Worth.CUT


def choose(rollouts: Sequence[Rollout], select: Select, total: int | None = None) -> Choice:
    """Choose among the rollouts of a stage; `total`: how many the stage was to have.

    Agreement: the most frequent answer, ties by mean log-probability; without answers, the likeliest text of those of
    most `Worth`. "first" and "aggregate" take the first candidate with an answer. Raises ValueError without rollouts.
    """
    if not rollouts:
        raise ValueError("there is nothing to choose from")
    total = len(rollouts) if total is None else total
    groups = grouped(rollouts)
    if not groups:
        best = min(rollouts, key=lambda one: (worth_of(one), *_by_likelihood(one)))
        return Choice(best, None, 0, total)
    if select == "agreement":
        winners = max(groups.values(), key=_weight)
        winner = min(winners, key=_by_likelihood)
    else:
        winner = min((one for group in groups.values() for one in group), key=lambda one: one.candidate)
        winners = next(group for group in groups.values() if winner in group)
    return Choice(winner, answer_of(winner), len(winners), total)


def grouped(rollouts: Iterable[Rollout]) -> dict[Answer, list[Rollout]]:
    """Rollouts by the first answer that theirs agrees with; those without one are left out.

    In a few seconds: formulas that there was no time to compare count as different.
    """
    groups: dict[Answer, list[Rollout]] = {}
    with limited_algebra():
        for rollout in rollouts:
            answer = answer_of(rollout)
            if answer is not None:
                same = next((known for known in groups if known.agrees_with(answer)), answer)
                groups.setdefault(same, []).append(rollout)
    return groups


def _weight(group: Sequence[Rollout]) -> tuple[int, float, int]:
    mean = sum(map(_likelihood, group)) / len(group)
    return len(group), mean, -min(one.candidate for one in group)


def _likelihood(rollout: Rollout) -> float:
    return -math.inf if rollout.mean_logprob is None else rollout.mean_logprob


def _by_likelihood(rollout: Rollout) -> tuple[float, int]:
    return -_likelihood(rollout), rollout.candidate
