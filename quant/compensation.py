"""Rounding to int4 with error compensation: what a column loses is made good by the columns that come after it.

The error that counts is that of the outputs, (W - Q) H (W - Q)^T with H = X^T X of calibration inputs X. Columns are
rounded one by one; the rest of each row moves to where it cancels as much as it can of the error made so far (GPTQ,
arXiv 2210.17323). Groups are taken in the order of their importance, and within a group its columns likewise, so that
the large errors are made while there are columns left to compensate them.

A matrix of experts sees few rows of inputs, often fewer than it has columns. Correlations are then mostly chance and
are shrunk: by half at 1,400 rows for 2,048 columns. Channels that were hardly active in them may well be in what will
be read, so that K/2 rows in which all channels are alike are added to those that were seen. How large they are goes
by the mean of the channels' sizes and not of their squares, as damping usually does: outliers, which make the sizes
differ by orders of magnitude, would drown all others. Where there were too few rows nothing is relied on, and a row
of weights that compensation would take too far from them is rounded without (`docs/quantization.md` has the
measurements).
"""

from __future__ import annotations

import torch
from torch import Tensor

from quant.formats import GROUP
from quant.rounding import HIGHEST, LOWEST, Rounded, round_searched, search_scales

_LEAST_SIZE = 1e-3  # of the median channel: one that calibration never saw active still counts a little


_LEAST_SHRINKAGE = 0.25  # however many rows: what will be read is not the calibration text
_ADDED_ROWS = 0.5  # of K
_LEAST_ROWS = 0.125  # of K: with fewer, rounding without compensation is as good or better
MOST_DEVIATION = 0.25  # |Q - W| / |W| of a row


def shrinkage_for(rows: int, k: int) -> float:
    """How much of the correlations between K inputs is not relied on after so many rows of them."""
    return max(_LEAST_SHRINKAGE, k / (k + 1.5 * rows))


class Compensation:
    """What rounding needs to know of the inputs: the order of the columns and how errors spread. One for each X."""

    def __init__(self, gram: Tensor, shrinkage: float, group: int = GROUP):
        """gram: (K, K) float32, X^T X of the inputs or any multiple of it. shrinkage: 0 < s <= 1, see `shrinkage_for`.

        Raises ValueError for a gram matrix that is not positive semi-definite, or has infinite entries.
        """
        self.group = group
        self.order = _order_of_columns(gram.diagonal(), group)
        self.upper = _inverse_factor(gram[self.order][:, self.order], shrinkage)
        self.importance = self.upper.diagonal().reciprocal().square()  # what an error costs after compensation

    def round(self, weight: Tensor) -> Rounded:
        """weight: (N, K) -> codes and scales; rows do not depend on each other.

        No row ends up further than MOST_DEVIATION from its weights unless it would without compensation, too. Raises
        ValueError for weights that are not finite.
        """
        rounded, exact = self._round_all(weight), weight.float()
        is_far = (rounded.dequantize() - exact).norm(dim=1) > MOST_DEVIATION * exact.norm(dim=1)
        if is_far.any():
            codes, scales = round_searched(weight[is_far], group=self.group)
            rounded.codes[is_far], rounded.scales[is_far] = codes, scales
        return rounded

    def _round_all(self, weight: Tensor) -> Rounded:
        columns = weight.float().t()[self.order].contiguous()  # (K, N), one row a column of W in the order of rounding
        codes = torch.empty(columns.shape, dtype=torch.int8)
        scales = torch.empty(len(columns) // self.group, columns.shape[1], dtype=torch.float16)
        for number, start in enumerate(range(0, len(columns), self.group)):
            here, after = slice(start, start + self.group), slice(start + self.group, None)
            block = columns[here]
            scales[number] = search_scales(block.t().contiguous(), self.importance[here])
            codes[here], errors = _round_block(block, scales[number].float(), self.upper[here, here])
            columns[after].addmm_(self.upper[here, after].t(), errors, alpha=-1)
        return self._in_place(codes, scales)

    def _in_place(self, codes: Tensor, scales: Tensor) -> Rounded:
        """Back to the order of the columns. codes: (K, N), scales: (K/64, N) in the order of rounding."""
        placed_codes, placed_scales = torch.empty_like(codes), torch.empty_like(scales)
        placed_codes[self.order] = codes
        placed_scales[self.order[:: self.group] // self.group] = scales
        return Rounded(placed_codes.t().contiguous(), placed_scales.t().contiguous())


class InputStatistics:
    """X^T X of the inputs X (n, K) of one matrix, and their number n."""

    def __init__(self, k: int):
        self.gram = torch.zeros(k, k)
        self.count = 0

    def add(self, x: Tensor) -> None:
        """x: (..., K), any float dtype."""
        rows = x.reshape(-1, x.shape[-1]).float()
        self.gram.addmm_(rows.t(), rows)
        self.count += len(rows)

    def compensation(self) -> Compensation | None:
        """For rounding a matrix with such inputs; None where they are too few. Raises as `Compensation`."""
        k = len(self.gram)
        if self.count < _LEAST_ROWS * k:
            return None
        usual = self.gram.diagonal().clamp_min(0).sqrt().mean().square() / self.count  # square of a channel, a row
        gram = self.gram.clone()
        gram.diagonal().add_(_ADDED_ROWS * k * usual)
        return Compensation(gram, shrinkage_for(self.count, k))


def _round_block(block: Tensor, scale: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """block: (group, N), changed; scale: (N); upper: (group, group) -> codes int8, scaled errors; (group, N) each."""
    inverse = torch.where(scale == 0, 0.0, 1.0 / scale)
    codes = torch.empty_like(block)
    errors = torch.empty_like(block)
    for i in range(len(block)):
        torch.mul(block[i], inverse, out=codes[i]).round_().clamp_(LOWEST, HIGHEST)
        torch.addcmul(block[i], codes[i], scale, value=-1, out=errors[i]).div_(upper[i, i])
        block[i + 1 :].addr_(upper[i, i + 1 :], errors[i], alpha=-1)
    return codes.to(torch.int8), errors


def _order_of_columns(importance: Tensor, group: int) -> Tensor:
    """Whole groups, the most important first; within each its columns, the most important first."""
    by_group = importance.view(-1, group)
    groups = by_group.sum(dim=1).argsort(descending=True, stable=True)
    inside = by_group.argsort(dim=1, descending=True, stable=True)
    return (groups[:, None] * group + inside[groups]).flatten()


def _inverse_factor(gram: Tensor, shrinkage: float) -> Tensor:
    """U, upper triangular, with U^T U = H^-1, H the gram matrix with shrunk correlations.

    By way of the correlation matrix C, gram = D C D: its inverse is exact in float32 however far the sizes D differ.
    """
    size = gram.diagonal().clamp_min(0).sqrt()
    active = size[size > 0]
    size = size.clamp_min(_LEAST_SIZE * float(active.median()) if len(active) else 1.0)
    correlations = (gram / size[:, None] / size).mul_(1 - shrinkage)
    correlations.diagonal().fill_(1.0)
    lower, failed = torch.linalg.cholesky_ex(correlations)
    if not failed:
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    if failed or not torch.isfinite(upper).all():
        raise ValueError("the calibration inputs give no positive definite matrix")
    return upper / size
