"""Rounding to int4 with error compensation: what a column loses is made good by the columns that come after it.

The error that counts is that of the outputs, (W - Q) H (W - Q)^T with H = X^T X of calibration inputs X. Columns are
rounded one by one; the rest of each row moves to where it cancels as much as it can of the error made so far (GPTQ,
arXiv 2210.17323). Groups are taken in the order of their importance, and within a group its columns likewise, so that
the large errors are made while there are columns left to compensate them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from quant.formats import GROUP
from quant.rounding import HIGHEST, LOWEST, Rounded, search_scales

DAMPING = 0.01  # of the mean diagonal, added to the diagonal


class Compensation:
    """What rounding needs to know of the inputs: the order of the columns and how errors spread. One for each X."""

    def __init__(self, gram: Tensor, damping: float = DAMPING, group: int = GROUP):
        """gram: (K, K) float32, X^T X of the inputs, or any multiple of it. damping: in parts of its mean diagonal.

        Raises ValueError for a matrix that is not positive semi-definite, far beyond rounding errors.
        """
        self.group = group
        self.order = _order_of_columns(gram.diagonal(), group)
        self.upper = _inverse_factor(gram[self.order][:, self.order], damping)
        self.importance = self.upper.diagonal().reciprocal().square()  # what an error costs after compensation

    def round(self, weight: Tensor) -> Rounded:
        """weight: (N, K) -> codes and scales; rows do not depend on each other.

        Raises ValueError for weights that are not finite.
        """
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


def _round_block(block: Tensor, scale: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """block: (group, N), changed; scale: (N); upper: (group, group) -> codes int8 and scaled errors, (group, N) each."""
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


def _inverse_factor(gram: Tensor, damping: float) -> Tensor:
    """U with U^T U = (gram + damping)^-1, upper triangular; more damping where rounding errors make that impossible."""
    mean = gram.diagonal().mean()
    if not mean > 0:
        return torch.eye(len(gram))
    eye = torch.eye(len(gram))
    for _ in range(6):
        lower, failed = torch.linalg.cholesky_ex(gram + damping * mean * eye)
        if not failed:
            inverse = torch.cholesky_inverse(lower)
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not failed:
                return upper
        damping *= 10
    raise ValueError("the calibration inputs give no positive definite matrix")
