"""The choice of tokens on a card: all rows at once, by sorting, and read by the host once.

The definition is that of `draw.py`; the random number of a step falls on other tokens than in its twin, which does not
sort. A card sorts a vocabulary in less time than a few questions of the host would take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from zaya_core.sampling.draw import Drawn, RowDraw, adjusted, no_numbers
from zaya_core.sampling.logits import expect_logits
from zaya_core.sampling.params import LEAST_TEMPERATURE
from zaya_core.whole_numbers import expect_whole


def draw_sorted(logits: Tensor, rows: Sequence[RowDraw], number: int = 0) -> list[Drawn | Exception]:
    """The next token of each row, or why it has none, as `draw.draw_row` says. logits: (B, V) float32.

    One synchronisation, whatever the rows ask for. number: which random number of the step decides.
    """
    chosen_from, errors = _adjusted(logits, rows)
    # An id that is none would be an index out of bounds, after which a card answers nobody any more.
    able = [replace(row, forced=None) if place in errors else row for place, row in enumerate(rows)]
    read = _read(logits, _chosen(chosen_from, able, number), able)
    drawn = [drawn_of(numbers, row) for numbers, row in zip(read, rows, strict=True)]
    return [errors.get(place, one) for place, one in enumerate(drawn)]


def _adjusted(logits: Tensor, rows: Sequence[RowDraw]) -> tuple[Tensor, dict[int, Exception]]:
    """(B, V): what tokens are chosen from, `logits` itself where no row changes any; and by place what is wrong."""
    errors: dict[int, Exception] = {}
    changed: dict[int, Tensor] = {}
    for place, row in enumerate(rows):
        try:
            expect_logits(own := logits[place])
            if row.forced is not None:
                expect_whole("the forced id", row.forced, 0, logits.shape[1] - 1)
            elif (other := adjusted(own, row)) is not own:
                changed[place] = other
        except Exception as error:
            errors[place] = error
    if changed:
        logits = torch.stack([changed.get(place, logits[place]) for place in range(len(rows))])
    return logits, errors


def _chosen(logits: Tensor, rows: Sequence[RowDraw], number: int) -> tuple[Tensor, Tensor]:
    """(B) each: the ids, and a number that is not finite where a row's logits are none."""
    if all(row.params.is_greedy or row.forced is not None for row in rows):
        ids, whole = logits.argmax(-1), logits.new_zeros(len(rows), dtype=torch.float64)
    else:
        ids, whole = _sampled(logits, rows, number)
    if all(row.forced is None for row in rows):
        return ids, whole
    forced = torch.tensor([-1 if row.forced is None else row.forced for row in rows]).to(logits.device)
    return torch.where(forced < 0, ids, forced), whole


def _sampled(logits: Tensor, rows: Sequence[RowDraw], number: int) -> tuple[Tensor, Tensor]:
    """As `_chosen`. All three cuts keep a beginning of the sorted row, from which the token is drawn in proportion."""
    temperature, top_p, top_k, min_p, uniform = _numbers(rows, logits.shape[1], number).to(logits.device).unbind(1)
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)  # equal ones by id
    weights = ((ordered - ordered[:, :1]) / temperature[:, None]).float().exp()
    del ordered  # a vocabulary's worth of each row, when most is in use
    sums = weights.cumsum(-1, dtype=torch.float64)
    before, whole = F.pad(sums[:, :-1], (1, 0)), sums[:, -1]
    is_kept = before < (top_p * whole)[:, None]
    is_kept &= torch.arange(logits.shape[1], device=logits.device) < top_k[:, None]
    is_kept &= weights >= min_p[:, None]
    last = (is_kept.sum(-1, keepdim=True) - 1).clamp_min(0)
    end = sums.gather(-1, last)
    # Inside even if rounding took it to the end, so that a weight of zero is never drawn.
    position = torch.minimum(uniform[:, None] * end, torch.nextafter(end, torch.zeros_like(end)))
    at = torch.searchsorted(sums, position, right=True).minimum(last)
    return ids.gather(-1, at)[:, 0], whole


def _numbers(rows: Sequence[RowDraw], vocabulary: int, number: int) -> Tensor:
    """(B, 5) float64: temperature, top-p, top-k, min-p, and the random number. Greedy rows keep the first."""
    numbers = []
    for row in rows:
        params, is_first = row.params, row.params.is_greedy or row.forced is not None
        top_k = 1 if is_first else params.top_k or vocabulary
        top_p = params.top_p if 0 < params.top_p < 1 and not is_first else math.inf
        uniform = 0.0 if is_first else row.key.uniform(row.step, number)
        numbers.append([max(params.temperature, LEAST_TEMPERATURE), top_p, top_k, params.min_p, uniform])
    return torch.tensor(numbers, dtype=torch.float64)


def _read(logits: Tensor, chosen: tuple[Tensor, Tensor], rows: Sequence[RowDraw]) -> list[list[float]]:
    """Of each row: id, its logit, the normaliser, whether there are numbers, then pairs of the likeliest."""
    ids, whole = chosen
    numbers = [ids, logits.gather(-1, ids[:, None])[:, 0], torch.logsumexp(logits, -1), whole]
    numbers += likeliest_pairs(logits, rows)
    read: list[list[float]] = torch.stack([one.double() for one in numbers], dim=1).tolist()
    return read


def likeliest_pairs(logits: Tensor, rows: Sequence[RowDraw]) -> list[Tensor]:
    """(B) each: ids of the likeliest tokens and their logits in turn, for the row that asks for most of them."""
    count = min(max((row.top_logprobs for row in rows), default=0), logits.shape[1])
    if not count:
        return []
    values, ids = logits.topk(count)
    return [column for pair in zip(ids.unbind(1), values.unbind(1), strict=True) for column in pair]


def drawn_of(numbers: Sequence[float], row: RowDraw) -> Drawn | Exception:
    """A row's answer from its id, the id's logit, the normaliser, the sum of weights, then pairs of the likeliest."""
    token_id, logit, normaliser, whole, *best = numbers
    if not (math.isfinite(normaliser) and (math.isfinite(whole) or row.params.is_greedy or row.forced is not None)):
        return no_numbers()
    pairs = zip(map(int, best[::2]), (value - normaliser for value in best[1::2]), strict=True)
    return Drawn(int(token_id), logit - normaliser, tuple(pairs)[: row.top_logprobs])
