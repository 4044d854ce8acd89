"""A branch into the residual stream, and its norm (reference: `ZayaResidualScaling`, `ZayaRMSNorm`)."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton.arguments import FLOAT32, Wanted, expect_tensors
from quant.kernels.triton.launch import Launch, power_of_two
from zaya_core.model.norm import RMSNorm
from zaya_core.model.residual import ResidualScaling


@triton.jit
def merged(branch, residual, branch_scale, constant, residual_scale, row, D: tl.constexpr, DP: tl.constexpr):
    """branch * branch_scale + constant + residual * residual_scale -> (DP)."""
    k = tl.arange(0, DP)
    inside = k < D
    kept = tl.load(residual + row * D + k, mask=inside, other=0.0) * tl.load(residual_scale + k, mask=inside, other=0.0)
    kept += tl.load(constant + k, mask=inside, other=0.0)
    return kept + tl.load(branch + row * D + k, mask=inside, other=0.0) * tl.load(
        branch_scale + k, mask=inside, other=0.0
    )


@triton.jit
def normed_row(x, weight, eps, D: tl.constexpr, DP: tl.constexpr):
    """x / rms(x) * weight. x: (DP), zero from D on."""
    k = tl.arange(0, DP)
    return x / tl.sqrt(tl.sum(x * x, 0) / D + eps) * tl.load(weight + k, mask=k < D, other=0.0)


@triton.jit
def merge_and_norm(
    branch,
    residual,
    branch_scale,
    constant,
    residual_scale,
    weight,
    residual_out,
    normed,
    eps,
    MERGE: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
):
    """Grid: rows."""
    row = tl.program_id(0)
    k = tl.arange(0, DP)
    if MERGE:
        x = merged(branch, residual, branch_scale, constant, residual_scale, row, D, DP)
        tl.store(residual_out + row * D + k, x, mask=k < D)
    else:
        x = tl.load(residual + row * D + k, mask=k < D, other=0.0)
    tl.store(normed + row * D + k, normed_row(x, weight, eps, D, DP), mask=k < D)


def merge_norm(
    branch: Tensor, residual: Tensor, scaling: ResidualScaling, norm: RMSNorm, residual_out: Tensor, normed: Tensor
) -> Launch:
    """branch, residual -> residual_out, and its norm in normed: (B, D) float32 each, four buffers.

    Raises ValueError for other tensors.
    """
    expect_merge(branch, residual, scaling, norm, residual_out, normed)
    rows, width = residual.shape
    factors = (scaling.branch_scale, scaling.constant, scaling.residual_scale, norm.weight)
    arguments = (branch, residual, *factors, residual_out, normed, norm.eps)
    return Launch(merge_and_norm, (rows,), arguments, _options(width, merge=True))


def first_norm(residual: Tensor, norm: RMSNorm, normed: Tensor) -> Launch:
    """Of the first layer, before which no branch ends: residual -> normed, (B, D) float32 each."""
    rows, width = residual.shape
    expect_tensors(
        residual.device,
        residual=(residual, (rows, width), FLOAT32),
        norm=(norm.weight, (width,), FLOAT32),
        normed=(normed, (rows, width), FLOAT32),
    )
    factors = (norm.weight,) * 4  # those of a merge are not read
    arguments = (residual, residual, *factors, normed, normed, norm.eps)
    return Launch(merge_and_norm, (rows,), arguments, _options(width, merge=False))


def _options(width: int, merge: bool) -> dict[str, int | bool]:
    return {"MERGE": merge, "D": width, "DP": power_of_two(width), "num_warps": 8}


def expect_merge(
    branch: Tensor, residual: Tensor, scaling: ResidualScaling, norm: RMSNorm, residual_out: Tensor, normed: Tensor
) -> None:
    """Raises ValueError unless these are what a merge and a norm take, and what is written is nothing that is read."""
    rows, width = residual.shape
    of_rows = {"branch": branch, "residual": residual, "residual_out": residual_out, "normed": normed}
    vectors = {
        "hidden_states_scale": scaling.branch_scale,
        "residual_scale": scaling.residual_scale,
        "constant": scaling.constant,
        "norm": norm.weight,
    }
    wanted: dict[str, Wanted] = {name: (one, (rows, width), FLOAT32) for name, one in of_rows.items()}
    wanted |= {name: (one, (width,), FLOAT32) for name, one in vectors.items()}
    expect_tensors(residual.device, **wanted)
    if residual_out is residual or residual_out is branch:
        raise ValueError("residual_out must be a buffer of its own: several programs read the old residual")
