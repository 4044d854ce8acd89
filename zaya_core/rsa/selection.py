"""Which candidate's answer to show: the one most of them agree on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from zaya_core.answers import Answer, find_answer
from zaya_core.rsa.params import Select
from zaya_core.rsa.rollouts import Rollout


@dataclass(frozen=True)
class Choice:
    """The chosen rollout, its answer if it has one, and how many of `total` gave the same."""

    rollout: Rollout
    answer: Answer | None
    agreeing: int
    total: int


def answer_of(rollout: Rollout) -> Answer | None:
    """The answer that its final text gives; while there is none, the one its thinking has come to."""
    if rollout.state in ("failed", "loop"):
        return None
    return find_answer(rollout.answer if rollout.answer.strip() else rollout.thinking)


def choose(rollouts: Sequence[Rollout], select: Select, total: int | None = None) -> Choice:
    """Choose among the rollouts of a stage; `total`: how many the stage was to have.

    Agreement: the most frequent answer, ties by mean log-probability; without answers, the likeliest text. "first" and
    "aggregate" take the first candidate with an answer. Raises ValueError without rollouts.
    """
    if not rollouts:
        raise ValueError("there is nothing to choose from")
    total = len(rollouts) if total is None else total
    groups = grouped(rollouts)
    if not groups:
        best = min(rollouts, key=_by_soundness)
        return Choice(best, None, 0, total)
    if select == "agreement":
        winners = max(groups.values(), key=_weight)
        winner = min(winners, key=_by_likelihood)
    else:
        winner = min((one for group in groups.values() for one in group), key=lambda one: one.candidate)
        winners = next(group for group in groups.values() if winner in group)
    return Choice(winner, answer_of(winner), len(winners), total)


def grouped(rollouts: Iterable[Rollout]) -> dict[Answer, list[Rollout]]:
    """Rollouts by the first answer that theirs agrees with; those without one are left out."""
    groups: dict[Answer, list[Rollout]] = {}
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


def _by_soundness(rollout: Rollout) -> tuple[bool, bool, float, int]:
    return rollout.state in ("failed", "loop"), not rollout.answer.strip(), *_by_likelihood(rollout)
