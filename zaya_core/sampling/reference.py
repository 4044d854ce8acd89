"""The choice of a token with torch, on any device: the twin of every other implementation."""

from __future__ import annotations

import math
from itertools import count

import torch
from torch import Tensor
from torch.nn.functional import threshold

from zaya_core.sampling.logits import SET, expect_logits, set_maxima
from zaya_core.sampling.params import LEAST_TEMPERATURE, RandomKey, SamplingParams

_SAMPLED = 64  # one weight of so many shows how the others are spread
_OFTEN_REFUSED = 0.7  # a top-p up to here refuses often enough that a floor found beforehand saves time


class ReferenceSampling:
    """See `draw.Sampling`."""

    def normalise(self, logits: Tensor) -> tuple[float, int]:
        """See `draw.Sampling`."""
        expect_logits(logits)
        return float(torch.logsumexp(logits, dim=0)), int(logits.argmax())

    def draw(self, logits: Tensor, params: SamplingParams, key: RandomKey, step: int) -> int | None:
        """See `draw.Sampling`.

        Nothing is sorted (262,272 numbers would take 25 ms). A token is drawn from candidates that are a beginning of
        the order and contain all that is kept. If a cut refuses it, then also everything behind it: what sorts before
        it is the next, smaller list of candidates. The kept tokens keep their proportions, and the first of the order
        is never refused, so that this ends, after about ln(1 / share of the kept) draws.
        """
        expect_logits(logits)
        # Differences first: a small temperature cannot overflow them.
        weights = logits - logits.max()
        weights = weights.div_(max(params.temperature, LEAST_TEMPERATURE)).exp_()  # p / max(p); fresh memory is slow
        total = float(weights.sum(dtype=torch.float64))
        if not math.isfinite(total):
            return None
        mass_limit = params.top_p * total if params.top_p < 1 else math.inf
        weights = _cut_to_floor_(weights, logits, params, mass_limit)
        ids: Tensor | None = None  # None: the weights are those of all tokens
        for attempt in count():
            at = _draw_in_proportion(weights, key.uniform(step, attempt))
            before = _before(weights, logits, at)
            in_top_k = not params.top_k or int(torch.count_nonzero(before)) < params.top_k
            if in_top_k and float(before.sum(dtype=torch.float64)) < mass_limit:
                break
            weights, logits, ids = _gather(before, logits, ids)
        return at if ids is None else int(ids[at])


def _cut_to_floor_(weights: Tensor, logits: Tensor, params: SamplingParams, mass_limit: float) -> Tensor:
    """Put zero in place of what min-p cuts, and of what is certainly not kept by the others, in `weights` itself."""
    if params.top_k and params.top_k <= len(maxima := set_maxima(logits)):
        # So many sets have a maximum of at least this that the top k are not below it.
        lowest = maxima.topk(params.top_k).values[-1]
        weights.masked_fill_(logits < lowest, 0.0)
        _drop_late_ties_(weights, logits, lowest, params.top_k)
    floor = params.min_p
    if params.top_p <= _OFTEN_REFUSED:
        floor = max(floor, _floor_of_mass(weights, mass_limit))
    return weights if floor == 0 else threshold(weights, _just_below(floor), 0.0, inplace=True)


def _drop_late_ties_(weights: Tensor, logits: Tensor, lowest: Tensor, top_k: int) -> None:
    """Put zero in place of the weights of the lowest logit that are not among the top k: those behind others by id."""
    is_tie = logits == lowest
    ties = int(torch.count_nonzero(is_tie))
    kept = max(0, top_k - int(torch.count_nonzero(logits > lowest)))
    if ties > kept:
        weights[is_tie.nonzero()[kept:, 0]] = 0


def _floor_of_mass(weights: Tensor, mass: float) -> float:
    """A weight such that those not below it sum to more than `mass`, guessed from a sample; 0 where the guess fails."""
    sample = weights[::_SAMPLED].sort(descending=True).values
    sums = sample.cumsum(0, dtype=torch.float64)
    wanted = 1.1 * mass / _SAMPLED
    if float(sums[-1]) <= wanted:
        return 0.0
    guess = float(sample[int(torch.searchsorted(sums, wanted, right=True))])
    reached = float(threshold(weights, _just_below(guess), 0.0).sum(dtype=torch.float64))
    return guess if reached > mass else 0.0


def _just_below(value: float) -> float:
    """The float32 before a positive float32."""
    return float(torch.nextafter(torch.tensor(value), torch.tensor(0.0)))


def _draw_in_proportion(weights: Tensor, uniform: float) -> int:
    """First a row of neighbours by the rows' sums, then one of the row: no second vector as long as the vocabulary."""
    rows = weights[None] if len(weights) % SET else weights.unflatten(0, (-1, SET))
    sums = rows.sum(1, dtype=torch.float64).cumsum(0)
    position = uniform * float(sums[-1])
    row = _first_beyond(sums, position)
    start = float(sums[row - 1]) if row else 0.0
    return row * rows.shape[1] + _first_beyond(rows[row].cumsum(0, dtype=torch.float64), position - start)


def _first_beyond(sums: Tensor, position: float) -> int:
    """Where ascending sums exceed the position; it counts as inside even if rounding took it to the end, so that a
    weight of zero is never drawn."""
    return int(torch.searchsorted(sums, min(position, math.nextafter(float(sums[-1]), 0.0)), right=True))


def _before(weights: Tensor, logits: Tensor, at: int) -> Tensor:
    """Weights of what sorts before the one at `at`, larger logits and equal ones with a smaller id; zero elsewhere."""
    own = logits[at]
    before = weights.where(logits > own, 0.0)
    equal = logits[:at] == own
    if equal.any():
        before[:at] += weights[:at] * equal
    return before


def _gather(weights: Tensor, logits: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The candidates without their zeros, once those are so many that this costs less than carrying them along."""
    if 16 * int(torch.count_nonzero(weights)) > len(weights):
        return weights, logits, ids
    positions = weights.nonzero()[:, 0]
    return weights[positions], logits[positions], positions if ids is None else ids[positions]
