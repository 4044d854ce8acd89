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


def round_compensated(weight: Tensor, gram: Tensor, damping: float = DAMPING) -> Rounded:
    """weight: (N, K); gram: (K, K) float32, X^T X of the inputs (any factor) -> codes and scales.

    Raises ValueError for weights that are not finite, or a gram matrix that is not positive semi-definite.
    """
    order = _order_of_columns(gram.diagonal())
    upper = _inverse_factor(gram[order][:, order], damping)
    columns = weight.float().t()[order].contiguous()  # (K, N), one row a column of W in the order of rounding
    importance = upper.diagonal().reciprocal().square()  # what an error in this column costs after compensation
    codes = torch.empty(columns.shape, dtype=torch.int8)
    scales = torch.empty(len(columns) // GROUP, columns.shape[1], dtype=torch.float16)
    for group, start in enumerate(range(0, len(columns), GROUP)):
        stop = start + GROUP
        block = columns[start:stop]
        scales[group] = search_scales(block.t().contiguous(), importance[start:stop])
        codes[start:stop], errors = _round_block(block, scales[group].float(), upper[start:stop, start:stop])
        columns[stop:].addmm_(upper[start:stop, stop:].t(), errors, alpha=-1)
    return _in_place_of(order, codes, scales)


def _round_block(block: Tensor, scale: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """block: (64, N), changed; scale: (N); upper: (64, 64) -> codes (64, N) int8, scaled errors (64, N)."""
    inverse = torch.where(scale == 0, 0.0, 1.0 / scale)
    codes = torch.empty_like(block)
    errors = torch.empty_like(block)
    for i in range(GROUP):
        torch.mul(block[i], inverse, out=codes[i]).round_().clamp_(LOWEST, HIGHEST)
        torch.addcmul(block[i], codes[i], scale, value=-1, out=errors[i]).div_(upper[i, i])
        if i + 1 < GROUP:
            block[i + 1 :].addr_(upper[i, i + 1 :], errors[i], alpha=-1)
    return codes.to(torch.int8), errors


def _order_of_columns(importance: Tensor) -> Tensor:
    """Whole groups, the most important first; within each its columns, the most important first."""
    by_group = importance.view(-1, GROUP)
    groups = by_group.sum(dim=1).argsort(descending=True, stable=True)
    inside = by_group.argsort(dim=1, descending=True, stable=True)
    return (groups[:, None] * GROUP + inside[groups]).flatten()


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


def _in_place_of(order: Tensor, codes: Tensor, scales: Tensor) -> Rounded:
    """Back to the order of the columns. codes: (K, N), scales: (K/64, N) in the order of rounding."""
    placed_codes = torch.empty_like(codes)
    placed_codes[order] = codes
    placed_scales = torch.empty_like(scales)
    placed_scales[order[::GROUP] // GROUP] = scales
    return Rounded(placed_codes.t().contiguous(), placed_scales.t().contiguous())
