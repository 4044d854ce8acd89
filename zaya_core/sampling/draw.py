"""From logits to the next token of each row: a row's request, the answer to it, and the steps between them.

Definition. With p = softmax(logits / temperature) over the whole vocabulary, sorted from the largest: keep the first
`top_k` tokens, the shortest beginning whose sum reaches `top_p`, and those with p >= min_p * max(p). All three are
beginnings of the same order and all use the full p, so that it does not matter which comes first; the token is drawn
from what all three keep. The order is that of the logits, equal ones by id: a large temperature makes weights equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from zaya_core.errors import CheckpointError
from zaya_core.sampling.logits import biased, largest, masked, penalise_repetition
from zaya_core.sampling.params import RandomKey, SamplingParams
from zaya_core.whole_numbers import expect_whole


@dataclass(frozen=True)
class RowDraw:
    """What one row asks for: its parameters, the key of its random numbers and the step they are for.

    forced: replaces the choice, not the log-probabilities. seen (n) int64: ids that the repetition penalty is for, each
    once. bias: added to the logits of some ids; a row's own also has its penalties by count (`additions.py`). allowed:
    (V) bool, tokens that may be chosen; None: all. Penalty, bias and mask change what is chosen, in this order, and no
    log-probability.
    """

    params: SamplingParams
    key: RandomKey
    step: int
    forced: int | None = None
    top_logprobs: int = 0
    seen: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    bias: Mapping[int, float] = field(default_factory=dict)
    allowed: Tensor | None = None


@dataclass(frozen=True)
class Drawn:
    """A token with the model's own log-probabilities: natural logarithm, temperature 1, nothing cut or penalised."""

    token_id: int
    logprob: float
    top_logprobs: tuple[tuple[int, float], ...] = ()


class Sampling(Protocol):
    """How one device works on a row of logits (V) float32. Both raise ValueError for logits of another form."""

    def normalise(self, logits: Tensor) -> tuple[float, int]:
        """log(sum(e^logits)), not finite where some are no numbers; the id of the largest, of equals the first."""

    def draw(self, logits: Tensor, params: SamplingParams, key: RandomKey, step: int) -> int | None:
        """A token by the definition at the top; None where some are no numbers. Temperature and top-p above 0."""


def draw_rows(sampling: Sampling, logits: Tensor, rows: Sequence[RowDraw]) -> list[Drawn | Exception]:
    """The next token of each row, or what `draw_row` raised for it. logits: (B, V) float32."""
    return [_drawn_or_error(sampling, own, row) for own, row in zip(logits, rows, strict=True)]


def _drawn_or_error(sampling: Sampling, logits: Tensor, row: RowDraw) -> Drawn | Exception:
    try:
        return draw_row(sampling, logits, row)
    except Exception as error:
        return error


def draw_row(sampling: Sampling, logits: Tensor, row: RowDraw) -> Drawn:
    """The next token of one row. logits: (V) float32.

    Raises CheckpointError when they are no numbers (-inf is one: such a token is never chosen), ValueError when they
    have another form, or not the forced id.
    """
    normaliser, likeliest = sampling.normalise(logits)
    if not math.isfinite(normaliser):
        raise no_numbers()
    if row.forced is not None:
        expect_whole("the forced id", row.forced, 0, len(logits) - 1)
    token_id = _choose(sampling, logits, likeliest, row) if row.forced is None else row.forced
    best: tuple[tuple[int, float], ...] = ()
    if row.top_logprobs:
        values, ids = largest(logits, min(row.top_logprobs, len(logits)))
        best = tuple(zip(ids.tolist(), (values.double() - normaliser).tolist(), strict=True))
    return Drawn(token_id, float(logits[token_id]) - normaliser, best)


def _choose(sampling: Sampling, logits: Tensor, likeliest: int, row: RowDraw) -> int:
    changed = adjusted(logits, row)
    if row.params.is_greedy:
        return likeliest if changed is logits else int(changed.argmax())
    token_id = sampling.draw(changed, row.params, row.key, row.step)
    if token_id is None:
        raise no_numbers()
    return token_id


def no_numbers() -> CheckpointError:
    """What is wrong with logits that are none."""
    return CheckpointError(
        "The model computed logits that are not numbers: its weights are damaged; download the files again."
    )


def adjusted(logits: Tensor, row: RowDraw) -> Tensor:
    """What a row's token is chosen from: logits (V) after penalty, bias and mask; themselves where it has none."""
    if len(row.seen):
        logits = penalise_repetition(logits, row.seen, row.params.repetition_penalty)
    if row.bias:
        logits = biased(logits, row.bias)
    return logits if row.allowed is None else masked(logits, row.allowed)
