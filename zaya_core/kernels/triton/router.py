"""Which expert a token goes to (reference: `ZayaRouter`, `ZayaRouterMLP`), in two launches, float32 throughout."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton.arguments import FLOAT32, FLOATS, INT32, expect_tensors
from quant.kernels.triton.launch import Launch, power_of_two
from zaya_core.kernels.triton.merge_norm import expect_merge, merged, normed_row
from zaya_core.kernels.triton.stored import narrowest
from zaya_core.model.norm import RMSNorm
from zaya_core.model.residual import ResidualScaling
from zaya_core.model.router import Router

_OUTPUTS = 8  # of the way down, by one program
_CHUNK = 64  # inputs of a layer of the MLP that are multiplied at once


@triton.jit
def merge_norm_down(
    branch,
    residual,
    branch_scale,
    constant,
    residual_scale,
    norm,
    down,
    down_bias,
    residual_out,
    normed,
    own,
    R,
    eps,
    D: tl.constexpr,
    DP: tl.constexpr,
    OUTPUTS: tl.constexpr,
):
    """Grid: (R / OUTPUTS, rows). Each program merges and norms its row anew; the first writes what comes of it."""
    part, row = tl.program_id(0), tl.program_id(1)
    k = tl.arange(0, DP)
    inside = k < D
    x = merged(branch, residual, branch_scale, constant, residual_scale, row, D, DP)
    y = normed_row(x, norm, eps, D, DP)
    if part == 0:
        tl.store(residual_out + row * D + k, x, mask=inside)
        tl.store(normed + row * D + k, y, mask=inside)
    n = part * OUTPUTS + tl.arange(0, OUTPUTS)
    mask = (n < R)[:, None] & inside[None, :]
    weight = tl.load(down + n[:, None] * D + k[None, :], mask=mask, other=0.0).to(tl.float32)
    out = tl.sum(weight * y[None, :], 1) + tl.load(down_bias + n, mask=n < R, other=0.0)
    tl.store(own + row * R + n, out, mask=n < R)


@triton.jit
def gelu(x):
    """Exact, not the tanh approximation."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def times(x, weight, R: tl.constexpr, OUT: tl.constexpr, OUTP: tl.constexpr, CHUNK: tl.constexpr):
    """x: (R) in memory, weight: (R, OUT) -> (OUTP)."""
    n = tl.arange(0, OUTP)
    total = tl.zeros((OUTP,), tl.float32)
    for start in range(0, R, CHUNK):
        i = start + tl.arange(0, CHUNK)
        mask = (i < R)[:, None] & (n < OUT)[None, :]
        w = tl.load(weight + i[:, None] * OUT + n[None, :], mask=mask, other=0.0).to(tl.float32)
        total += tl.sum(w * tl.load(x + i, mask=i < R, other=0.0)[:, None], 0)
    return total


@triton.jit
def next_state(own, before, state_scale, state, row, IS_FIRST: tl.constexpr, R: tl.constexpr, RP: tl.constexpr):
    """What this layer's way down gave, and the state of the layer before -> (RP), stored for the next layer."""
    r = tl.arange(0, RP)
    inside = r < R
    x = tl.load(own + row * R + r, mask=inside, other=0.0)
    if not IS_FIRST:
        kept = tl.load(before + row * R + r, mask=inside, other=0.0)
        x += kept * tl.load(state_scale + r, mask=inside, other=0.0)
    tl.store(state + row * R + r, x, mask=inside)
    return x


@triton.jit
def choose_expert(
    own,
    before,
    state_scale,
    norm,
    fc1,
    bias1,
    fc2,
    bias2,
    out_proj,
    balancing_biases,
    positions,
    state,
    scratch,
    choice,
    weight,
    eps,
    IS_FIRST: tl.constexpr,
    R: tl.constexpr,
    RP: tl.constexpr,
    CLASSES: tl.constexpr,
    CLASSESP: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Grid: rows. scratch (B, 3, R): a layer's inputs, which all threads read; each layer's are written once."""
    row = tl.program_id(0)
    r, e = tl.arange(0, RP), tl.arange(0, CLASSESP)
    inside, is_class = r < R, e < CLASSES
    mine = scratch + row * 3 * R
    x = normed_row(next_state(own, before, state_scale, state, row, IS_FIRST, R, RP), norm, eps, R, RP)
    tl.store(mine + r, x, mask=inside)
    tl.debug_barrier()
    x = gelu(times(mine, fc1, R, R, RP, CHUNK) + tl.load(bias1 + r, mask=inside, other=0.0))
    tl.store(mine + R + r, x, mask=inside)
    tl.debug_barrier()
    x = gelu(times(mine + R, fc2, R, R, RP, CHUNK) + tl.load(bias2 + r, mask=inside, other=0.0))
    tl.store(mine + 2 * R + r, x, mask=inside)
    tl.debug_barrier()
    logits = tl.where(is_class, times(mine + 2 * R, out_proj, R, CLASSES, CLASSESP, CHUNK), -1e30)
    p = tl.exp(logits - tl.max(logits, 0))
    p = tl.where(is_class, p / tl.sum(p, 0), 0.0)
    biased = tl.where(is_class, p + tl.load(balancing_biases + e, mask=is_class, other=0.0), -1e30)
    best = tl.min(tl.where(biased == tl.max(biased, 0), e, CLASSES - 1), 0)  # the first of equals; of no numbers skip
    is_row = tl.load(positions + row) >= 0
    tl.store(choice + row, tl.where(is_row, best, CLASSES - 1))
    tl.store(weight + row, tl.where(is_row, tl.sum(tl.where(e == best, p, 0.0), 0), 0.0))


@dataclass(frozen=True)
class RouterWeights:
    """Of one layer, as the kernels read them. Made by `of`.

    down (R, D); fc1, fc2 (R, R) and out_proj (R, E + 1), inputs first: float32 or bfloat16, which is exact. norm: (R).
    state_scale: (R), None in the first layer. Others float32.
    """

    down: Tensor
    down_bias: Tensor
    state_scale: Tensor | None
    norm: RMSNorm
    fc1: Tensor
    bias1: Tensor
    fc2: Tensor
    bias2: Tensor
    out_proj: Tensor
    balancing_biases: Tensor

    @classmethod
    def of(cls, router: Router) -> RouterWeights:
        return cls(
            narrowest(router.down_proj[0]),
            router.down_proj[1],
            router.router_states_scale,
            router.norm,
            narrowest(router.fc1[0].t()),
            router.fc1[1],
            narrowest(router.fc2[0].t()),
            router.fc2[1],
            narrowest(router.out_proj.t()),
            router.balancing_biases,
        )

    @property
    def width(self) -> int:
        """R."""
        return self.down.shape[0]


def router_down(
    branch: Tensor,
    residual: Tensor,
    scaling: ResidualScaling,
    norm: RMSNorm,
    weights: RouterWeights,
    residual_out: Tensor,
    normed: Tensor,
    own: Tensor,
) -> Launch:
    """`merge_norm`, and the router's way down of what comes of it: own (B, R) float32. Raises ValueError."""
    expect_merge(branch, residual, scaling, norm, residual_out, normed)
    (rows, width), hidden = residual.shape, weights.width
    expect_tensors(
        residual.device,
        down=(weights.down, (hidden, width), FLOATS),
        down_bias=(weights.down_bias, (hidden,), FLOAT32),
        own=(own, (rows, hidden), FLOAT32),
    )
    factors = (scaling.branch_scale, scaling.constant, scaling.residual_scale, norm.weight)
    written = (residual_out, normed, own)
    arguments = (branch, residual, *factors, weights.down, weights.down_bias, *written, hidden, norm.eps)
    options = {"D": width, "DP": power_of_two(width), "OUTPUTS": _OUTPUTS, "num_warps": 8}
    return Launch(merge_norm_down, (-(-hidden // _OUTPUTS), rows), arguments, options)


def router_choice(
    own: Tensor,
    before: Tensor | None,
    weights: RouterWeights,
    positions: Tensor,
    state: Tensor,
    scratch: Tensor,
    choice: Tensor,
    weight: Tensor,
) -> Launch:
    """own (B, R), before (B, R) of the layer before -> state (B, R), choice (B) int32, weight (B), float32.

    before: None in the first layer. E in choice means skip; so does a row at position -1. scratch: (B, 3, R) float32 of
    nobody else. Raises ValueError for other tensors.
    """
    rows, hidden, classes = len(own), weights.width, len(weights.balancing_biases)
    is_first = before is None or weights.state_scale is None
    kept = own if before is None else before
    if state is kept or state is own:
        raise ValueError("the new state must be a buffer of its own")
    scale = weights.norm.weight if weights.state_scale is None else weights.state_scale
    _expect_weights(weights, own.device)
    expect_tensors(
        own.device,
        own=(own, (rows, hidden), FLOAT32),
        before=(kept, (rows, hidden), FLOAT32),
        positions=(positions, (rows,), INT32),
        state=(state, (rows, hidden), FLOAT32),
        scratch=(scratch, (rows, 3, hidden), FLOAT32),
        choice=(choice, (rows,), INT32),
        weight=(weight, (rows,), FLOAT32),
    )
    mlp = (weights.fc1, weights.bias1, weights.fc2, weights.bias2, weights.out_proj, weights.balancing_biases)
    read = (own, kept, scale, weights.norm.weight, *mlp, positions)
    sizes = {"R": hidden, "RP": power_of_two(hidden), "CLASSES": classes, "CLASSESP": power_of_two(classes)}
    options = {"IS_FIRST": is_first, **sizes, "CHUNK": _CHUNK, "num_warps": 16 if hidden > 128 else 4}
    return Launch(choose_expert, (rows,), (*read, state, scratch, choice, weight, weights.norm.eps), options)


def _expect_weights(weights: RouterWeights, device: torch.device) -> None:
    hidden, classes = weights.width, len(weights.balancing_biases)
    scale = weights.norm.weight if weights.state_scale is None else weights.state_scale
    expect_tensors(
        device,
        router_states_scale=(scale, (hidden,), FLOAT32),
        norm=(weights.norm.weight, (hidden,), FLOAT32),
        fc1=(weights.fc1, (hidden, hidden), FLOATS),
        bias1=(weights.bias1, (hidden,), FLOAT32),
        fc2=(weights.fc2, (hidden, hidden), FLOATS),
        bias2=(weights.bias2, (hidden,), FLOAT32),
        out_proj=(weights.out_proj, (hidden, classes), FLOATS),
        balancing_biases=(weights.balancing_biases, (classes,), FLOAT32),
    )
