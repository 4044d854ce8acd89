"""Rounding to int4: which codes and which scale a group of 64 weights gets.

Codes are -8..7 and a weight is code * scale. `round_plain` takes the group's largest magnitude / 7. `round_searched`
tries scales on both sides of that which makes the weight of largest magnitude -8 (so scales may be negative), rounds,
and takes for each the best scale for those codes, which is known in closed form: with weights w, codes q and
importances h the error sum h (w - s q)^2 is least at s = sum h w q / sum h q^2, and is then smaller the larger
(sum h w q)^2 / sum h q^2. `docs/quantization.md` has what the choices cost and bring.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from quant.formats import GROUP

LOWEST, HIGHEST = -8, 7
# What the weight of largest magnitude becomes before it is cut to -8; below 8 leaves the lowest codes unused, above 8
# gives the small weights finer steps at the cost of the largest ones.
REACHES = (6.0, 6.5, 7.0, 7.4, 7.7, 8.0, 8.3, 8.7, 9.2, 9.8, 10.6)


class Rounded(NamedTuple):
    """codes: (N, K) int8 in -8..7, scales: (N, K/64) float16."""

    codes: Tensor
    scales: Tensor

    def dequantize(self) -> Tensor:
        """(N, K) float32."""
        groups = self.codes.float().unflatten(1, (-1, GROUP)) * self.scales.float()[..., None]
        return groups.flatten(1)


def round_plain(weight: Tensor) -> Rounded:
    """weight: (N, K) -> to nearest, scale = absmax / 7, codes -7..7."""
    groups = weight.float().unflatten(1, (-1, GROUP))
    absmax = groups.abs().amax(dim=-1)
    expect_finite(absmax)
    scales = to_float16(absmax / 7)
    return Rounded(nearest_codes(groups, scales).flatten(1), scales)


def round_searched(weight: Tensor, importance: Tensor | None = None) -> Rounded:
    """weight: (N, K); importance: (K) >= 0, the mean square of each input channel, or None for all alike."""
    groups = weight.float().unflatten(1, (-1, GROUP))
    scales = search_scales(groups, None if importance is None else _normalised(importance).view(-1, GROUP))
    return Rounded(nearest_codes(groups, scales).flatten(1), scales)


def search_scales(groups: Tensor, importance: Tensor | None = None) -> Tensor:
    """groups: (..., 64) float32, importance: broadcastable to it -> (...) float16, the scale of least error.

    Raises ValueError for weights that are not finite.
    """
    lowest, highest = groups.amin(dim=-1), groups.amax(dim=-1)
    extreme = torch.where(highest > -lowest, highest, lowest)
    expect_finite(extreme)
    inverse_of_one = torch.where(extreme == 0, 0.0, -1.0 / extreme)
    weighted = groups if importance is None else groups * importance
    codes, scratch = torch.empty_like(groups), torch.empty_like(groups)
    best = torch.zeros_like(extreme)
    scale = torch.zeros_like(extreme)
    for reach in REACHES:
        inverse = inverse_of_one * reach
        torch.mul(groups, inverse[..., None], out=codes).round_().clamp_(LOWEST, HIGHEST)
        product = torch.mul(weighted, codes, out=scratch).sum(dim=-1)
        square = codes.square_() if importance is None else codes.square_().mul_(importance)
        norm = square.sum(dim=-1)
        quality = product.square() / norm
        is_better = quality > best  # false where the norm is zero: nothing but zeros, whose scale stays zero
        best = torch.where(is_better, quality, best)
        scale = torch.where(is_better, product / norm, scale)
    return to_float16(scale)


def nearest_codes(groups: Tensor, scales: Tensor) -> Tensor:
    """groups: (..., 64) float32, scales: (...) float16 -> (..., 64) int8 in -8..7, zeros where the scale is zero."""
    exact = scales.float()
    inverse = torch.where(exact == 0, 0.0, 1.0 / exact)
    return (groups * inverse[..., None]).round_().clamp_(LOWEST, HIGHEST).to(torch.int8)


def to_float16(scales: Tensor) -> Tensor:
    """Raises ValueError for a scale that float16 cannot hold."""
    if scales.numel() and scales.abs().max() > torch.finfo(torch.float16).max:
        raise ValueError(f"a scale of {scales.abs().max():.3g} exceeds what float16 holds (65,504)")
    return scales.to(torch.float16)


def expect_finite(values: Tensor) -> None:
    """Raises ValueError where a value is infinite or not a number."""
    if not torch.isfinite(values).all():
        raise ValueError("there are weights that are not finite numbers")


def _normalised(importance: Tensor) -> Tensor:
    """Mean 1 and nowhere below a thousandth: an input that calibration never saw active still counts a little."""
    importance = importance.float()
    mean = importance.mean()
    return torch.ones_like(importance) if mean == 0 else (importance / mean).clamp_min(1e-3)
