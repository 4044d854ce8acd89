"""Tokens that kernels choose: the likeliest, and draws that keep to what all cuts leave."""

from __future__ import annotations

import torch

from zaya_core.kernels.triton.sampling.rows import TritonSampling
from zaya_core.measure.card_check.check import Check, random
from zaya_core.sampling.draw import Drawn, RowDraw
from zaya_core.sampling.params import RandomKey, SamplingParams
from zaya_core.sampling.sorted import draw_sorted

_VOCABULARY, _STEPS = 5_003, 4
_PARAMS = (SamplingParams(temperature=0), SamplingParams(temperature=1.0, top_k=5), SamplingParams(temperature=0.6))
_TOLERANCE = 1e-3


def choice_checks() -> list[Check]:
    """One, of all ways of choosing at once."""
    return [Check("choice of tokens", _difference, _TOLERANCE)]


def _difference(device: torch.device) -> float:
    """Of log-probabilities; infinite for a token that is not the likeliest, or that the cuts do not leave."""
    logits = 3 * random(len(_PARAMS), _VOCABULARY, device=device)
    best = logits.topk(5).indices.tolist()
    worst = 0.0
    for step in range(_STEPS):
        rows = [RowDraw(params, RandomKey(7, row), step) for row, params in enumerate(_PARAMS)]
        found = TritonSampling().draw(logits, rows)
        ids = [one.token_id if isinstance(one, Drawn) else -1 for one in found]
        if -1 in ids or ids[0] != best[0][0] or ids[1] not in best[1]:
            return float("inf")
        forced = [RowDraw(row.params, row.key, step, forced=id) for row, id in zip(rows, ids, strict=True)]
        for one, other in zip(found, draw_sorted(logits, forced), strict=True):
            if not (isinstance(one, Drawn) and isinstance(other, Drawn)):
                return float("inf")
            worst = max(worst, abs(one.logprob - other.logprob) / max(1.0, abs(other.logprob)))
    return worst
