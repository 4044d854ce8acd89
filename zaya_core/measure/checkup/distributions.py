"""Logits of a known model held against published ones: finer than which id is the likeliest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from zaya_core.measure.checkup.finding import Finding
from zaya_core.measure.checkup.golden import Golden, Known, bits_of_weights
from zaya_core.model.model import ZayaModel

KEPT = 8  # of the likeliest ids at each position; all others count as one
_LEAST = 1e-6  # of what those others have together: what rounding of the kept ones leaves
_MOST = 0.9  # of the positions, those with the smallest differences


def compare_logits(model: ZayaModel, known: Known) -> Iterator[Finding]:
    """Nothing where none are known."""
    golden = known.judge
    if golden is not None and golden.likeliest_at:
        yield _compare_distributions(model, golden)
    if golden is not None and golden.last_logits is not None and model.config.quantization is None:
        yield from _compare_last_logits(model, golden.ids, *golden.last_logits)


def kept(logits: Tensor) -> tuple[list[list[int]], list[list[float]]]:
    """What is stored of logits (T, V): the likeliest ids at each position, and their log-probabilities."""
    log_p, ids = logits.double().log_softmax(-1).topk(KEPT)
    return ids.tolist(), [[round(one, 6) for one in row] for row in log_p.tolist()]


def _compare_distributions(model: ZayaModel, golden: Golden) -> Finding:
    ids = torch.tensor([[*golden.ids, *golden.greedy]])
    kl = _divergence(model(ids)[0].cpu(), golden)
    bits = bits_of_weights(model.config)
    limit = golden.closeness[bits]
    text = f"KL {kl:.1g} from {golden.source}"
    if kl <= limit:
        return Finding("logits", f"{text} (weights of {bits} bits: up to {limit:g})")
    return Finding(
        "logits", f"{text}, and {limit:g} is the most for weights of {bits} bits: damaged weights", "problem"
    )


def _divergence(logits: Tensor, golden: Golden) -> float:
    """The mean KL of the kept probabilities, and of all others as one, over most positions; NaN where a logit is.

    Not over all: with other instructions, too, a router chooses another expert at one or two of them.
    """
    log_q = logits.double().log_softmax(-1).gather(1, torch.tensor(golden.likeliest_at))
    log_p = torch.tensor(golden.log_probabilities_at, dtype=torch.float64)
    p, q = log_p.exp(), log_q.exp()
    rest, other = ((1 - one.sum(-1)).clamp_min(_LEAST) for one in (p, q))
    kl = (p * (log_p - log_q)).sum(-1) + rest * (rest / other).log()
    return float(kl.sort().values[: int(_MOST * len(kl))].mean()) if kl.isfinite().all() else math.nan


def _compare_last_logits(
    model: ZayaModel, ids: Sequence[int], known: Sequence[float], tolerance: float
) -> Iterator[Finding]:
    """What a common shift or factor of all logits would change, of which the likeliest ids say nothing."""
    found = model(torch.tensor([ids]))[0, -len(known) :, -3:].mean(-1).tolist()
    if not all(abs(one - other) <= tolerance for one, other in zip(found, known, strict=True)):
        words = [" / ".join(f"{value:.2f}" for value in values) for values in (found, known)]
        yield Finding("logits", f"those of the last ids are {words[0]}; about {words[1]} are known", "note")
