"""Rows of logits: their form, the largest of them, and what a request changes in them before a token is chosen."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from quant.kernels.pointers import described
from quant.matrix import expect_index
from zaya_core.whole_numbers import expect_whole

SET = 32  # the largest of each set of so many logits is found first, and the largest of all among those


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive logits of seen tokens by `penalty`, multiply negative ones (CTRL, arXiv 1909.05858).

    seen: ids, each once. Raises IndexError for one that is none, ValueError for logits of another form.
    """
    expect_logits(logits)
    expect_seen(seen, len(logits))
    index = seen.to(logits.device)
    old = logits[index]
    return logits.scatter(0, index, torch.where(old > 0, old / penalty, old * penalty))


def biased(logits: Tensor, bias: Mapping[int, float]) -> Tensor:
    """Logits (V) with a number added to those of some ids. Raises IndexError for one that is none, ValueError."""
    expect_logits(logits)
    index, added = bias_of(bias, len(logits))
    return logits.index_add(0, index.to(logits.device), added.to(logits.device))


def masked(logits: Tensor, allowed: Tensor) -> Tensor:
    """Logits (V) where no other token can be chosen. allowed: (V) bool. Raises ValueError for another mask."""
    expect_logits(logits)
    expect_allowed(allowed, len(logits))
    return logits.masked_fill(~allowed.to(logits.device), -torch.inf)


def expect_seen(seen: Tensor, count: int) -> None:
    """Raises IndexError for ids of which one is none of `count`, ValueError for what is no row of ids."""
    expect_index(seen, count)
    if seen.dim() != 1:
        raise ValueError(f"the ids that were seen must be a row; they are {described(seen)}")


def bias_of(bias: Mapping[int, float], count: int) -> tuple[Tensor, Tensor]:
    """Ids (n) int64 and what is added to their logits (n) float32, on the CPU. Raises IndexError for an id that is none
    of `count`."""
    index = torch.tensor(list(bias), dtype=torch.int64)
    expect_index(index, count)
    return index, torch.tensor(list(bias.values()), dtype=torch.float32)


def expect_allowed(allowed: Tensor, count: int) -> None:
    """Raises ValueError for what is no mask of `count` tokens, or one that allows none."""
    if allowed.shape != (count,) or allowed.dtype != torch.bool:
        raise ValueError(f"a mask of allowed tokens must be ({count},) bool; it is {described(allowed)}")
    if not bool(allowed.any()):
        raise ValueError("a mask must allow a token")


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`values.topk(count)`, several times as fast where the count is small: all are in the sets of largest maximum.

    values: (V) float32. Raises ValueError for others, or a count that is not from 0 to V.
    """
    expect_logits(values)
    expect_whole("the count", count, 0, len(values))
    maxima = set_maxima(values)
    if not count < len(maxima) < len(values):
        found, ids = values.topk(count)
        return found, ids
    firsts = maxima.topk(count).indices[:, None]
    ids = (firsts + torch.arange(SET, device=values.device) * len(maxima)).flatten()
    found, order = values[ids].topk(count)
    return found, ids[order]


def set_maxima(values: Tensor) -> Tensor:
    """The largest of each set of values, a set being every n-th (which is faster than neighbours); n maxima."""
    return values if len(values) % SET else values.unflatten(0, (SET, -1)).amax(0)


def expect_logits(logits: Tensor) -> None:
    """Raises ValueError for anything else than (V) float32, V at least 1, on a CPU or GPU."""
    if not (
        isinstance(logits, Tensor)
        and logits.dim() == 1
        and len(logits)
        and logits.dtype == torch.float32
        and logits.layout == torch.strided
        and not logits.is_meta
    ):
        raise ValueError(f"logits must be (V) float32, V at least 1; they are {described(logits)}")
