"""The kernels that choose tokens, once more with torch: the same sums of the same chunks, so that ids are the same.

float32 sums of a chunk may be in another order and exponentials of another library. A row is therefore told how close
its nearest decision was: where a border of the random number, or a cut, is closer than rounding, ids may differ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zaya_core.sampling.draw import RowDraw
from zaya_core.sampling.params import LEAST_TEMPERATURE

UNSURE = 1e-6


@dataclass
class Rows:
    """Logits (B, chunks, chunk), weights of the same shape, and what the rows ask for (B) each."""

    x: Tensor
    w: Tensor
    n: Tensor
    position_of: Sequence[RowDraw]
    closest: Tensor

    def near(self, distances: Tensor, is_asked: Tensor) -> None:
        """Note the least relative distance of each row that still asks."""
        least = distances.flatten(1).nan_to_num(math.inf).amin(1).double()
        self.closest = torch.where(is_asked, torch.minimum(self.closest, least), self.closest)


def twin_ids(logits: Tensor, rows: Sequence[RowDraw], chunk: int = 1024, rounds: int = 8) -> tuple[list[int], Tensor]:
    """The id of each row, -1 where it takes more rounds; (B): how close the nearest decision was.

    logits: (B, V) float32, penalised, biased and masked; numbers in each row.
    """
    asked = [(1.0, math.inf, 1, 0.0) if row.params.is_greedy else cuts_of(row, logits.shape[1]) for row in rows]
    temperature, top_p, top_k, min_p = torch.tensor(asked, dtype=torch.float64).unbind(1)
    temperature, min_p = temperature.float(), min_p.float()[:, None, None]
    x = F.pad(logits, (0, -logits.shape[1] % chunk), value=-math.inf).unflatten(1, (-1, chunk))
    n = torch.arange(x.shape[1] * chunk).view(1, -1, chunk)
    most = x.amax(2)
    top = most.amax(1)
    reference = most.where(most > -math.inf, 0.0)
    sums = ((x - reference[:, :, None]) / temperature[:, None, None]).exp().sum(2)
    sums = sums.double() * ((most - top[:, None]) / temperature[:, None]).exp()
    whole, likeliest = sums.sum(1), x.flatten(1).argmax(1)
    w = ((x - top[:, None, None]) / temperature[:, None, None]).exp()
    own = Rows(x, w, n, rows, torch.full((len(rows),), math.inf, dtype=torch.float64))
    is_asked = torch.tensor([not row.params.is_greedy for row in rows])
    ids = torch.where(is_asked, -1, likeliest)
    token = propose(own, sums, torch.ones_like(x, dtype=torch.bool), likeliest, is_asked, 0)
    for number in range(rounds):
        limit = x.flatten(1).gather(1, token[:, None])[:, :, None]
        is_before = ((x > limit) | ((x == limit) & (n < token[:, None, None]))) & (w >= min_p)
        masses = w.where(is_before, 0.0).sum(2).double()
        mass, count = masses.sum(1), is_before.flatten(1).sum(1)
        own_weight = w.flatten(1).gather(1, token[:, None])
        own.near(((mass / (top_p * whole)) - 1).abs()[:, None], is_asked)
        own.near((w / min_p - 1).abs(), is_asked)
        is_kept = (mass < top_p * whole) & (count < top_k) & (own_weight >= min_p[:, 0])[:, 0] & is_asked
        ids, is_asked = torch.where(is_kept, token, ids), is_asked & ~is_kept
        if not is_asked.any():
            break
        token = propose(own, masses, is_before, likeliest, is_asked, number + 1)
    return ids.tolist(), own.closest


def cuts_of(row: RowDraw, vocabulary: int) -> tuple[float, float, int, float]:
    params = row.params
    top_p = params.top_p if params.top_p < 1 else math.inf
    return max(params.temperature, LEAST_TEMPERATURE), top_p, min(params.top_k or vocabulary, vocabulary), params.min_p


def propose(own: Rows, sums: Tensor, is_candidate: Tensor, likeliest: Tensor, is_asked: Tensor, number: int) -> Tensor:
    """(B): a token of the candidates, whose sums of each chunk are (B, chunks) float64."""
    asking = zip(own.position_of, is_asked.tolist(), strict=True)
    uniform = torch.tensor([row.key.uniform(row.step, number) if asks else 0.0 for row, asks in asking]).double()
    ends = sums.cumsum(1)
    total = ends.amax(1)
    position = uniform * total
    chunk = first_beyond(ends, position, sums > 0).clamp_min(0)
    own.near((ends - position[:, None]).abs() / total[:, None], is_asked)
    position = position - F.pad(ends, (1, 0)).gather(1, chunk[:, None])[:, 0]
    weights = own.w.where(is_candidate, 0.0)[torch.arange(len(chunk)), chunk]
    inner = weights.double().cumsum(1)
    own.near((inner - position[:, None]).abs() / total[:, None], is_asked)
    found = first_beyond(inner, position, weights > 0)
    return torch.where(found < 0, likeliest, chunk * own.x.shape[2] + found)


def first_beyond(ends: Tensor, position: Tensor, is_open: Tensor) -> Tensor:
    """(B): the first open place whose end is beyond the position, else the last open one, else -1."""
    places = torch.arange(ends.shape[1]).expand_as(ends)
    last = places.where(is_open, -1).amax(1)
    return places.where(is_open & (ends > position[:, None]), last[:, None].expand_as(ends)).amin(1)
