"""Attention of one token a row over the paged cache (reference: `ZayaAttention`): each split of a row's positions by a
program of its own, then all of them together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton.arguments import FLOAT32, INT32, expect_power_of_two, expect_tensors
from quant.kernels.triton.choice import INTERPRETER
from quant.kernels.triton.launch import DOT, Launch, power_of_two
from zaya_core.cache.arrangement import BLOCK
from zaya_core.kernels.triton.online_softmax import LEAST_DOT, LOG2_E, attend_run, slots_of_run
from zaya_core.kernels.triton.paged_cache import LayerKV

_PROGRAMS = 64  # splits of all rows of a head, so that a card has work for all of its processors


@dataclass(frozen=True)
class AttentionShape:
    """splits: of each row's positions; step: positions at once; warps: of a program."""

    splits: int
    step: int
    warps: int


def attention_shape(architecture: str, rows: int, kv: torch.dtype) -> AttentionShape:
    """For so many rows, and keys and values in this dtype: what leaves all numbers in registers."""
    if architecture == INTERPRETER:
        return AttentionShape(4, 64, 4)
    splits = max(4, _PROGRAMS // power_of_two(rows))
    if kv == torch.float32:
        return AttentionShape(splits, 16, 8)
    if architecture.startswith("gfx1"):  # RDNA
        return AttentionShape(splits, 16, 4)
    is_amd = architecture.startswith("gfx")  # where codes of int8 take up many registers
    return AttentionShape(splits, 32 if is_amd and kv == torch.int8 else 64, 4)


@dataclass(frozen=True)
class Parts:
    """What splits hand on, one for all layers: sums of values (B, H, splits, K), maxima and sums of weights (B, H,
    splits), float32."""

    values: Tensor
    maxima: Tensor
    sums: Tensor

    @classmethod
    def empty(cls, rows: int, heads: int, head_dim: int, splits: int, device: torch.device) -> Parts:
        """New ones; a split without positions leaves its values as they are."""
        shape = (rows, heads, splits)
        return cls(torch.empty(*shape, head_dim, device=device), *torch.empty(2, *shape, device=device))


@triton.jit
def attend_split(
    query,
    keys,
    values,
    key_scales,
    value_scales,
    positions,
    table,
    parts,
    maxima,
    sums,
    blocks,
    window,
    softmax_scale,
    H: tl.constexpr,
    G: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    STEP: tl.constexpr,
    SPLITS: tl.constexpr,
    QUERIES: tl.constexpr,
    DOT: tl.constexpr,
):
    """Grid: (G, rows, SPLITS). A split takes every SPLITS-th run of STEP positions of those that its row sees."""
    g, row, split = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    each: tl.constexpr = H // G
    h, d = tl.arange(0, QUERIES), tl.arange(0, K)
    is_query = h < each
    q = tl.load(query + ((row * H + g * each + h) * K)[:, None] + d[None, :], mask=is_query[:, None], other=0.0)
    length = tl.load(positions + row) + 1
    begin = tl.maximum(length - window, 0)
    if window == 0:
        begin = 0
    largest = tl.full((QUERIES,), -1e30, tl.float32)
    total, out = tl.zeros((QUERIES,), tl.float32), tl.zeros((QUERIES, K), tl.float32)
    for start in range(begin // STEP * STEP + split * STEP, length, SPLITS * STEP):
        p = start + tl.arange(0, STEP)
        seen = ((p >= begin) & (p < length))[None, :]
        slot = slots_of_run(table + row * blocks, start, g, G, BLOCK, STEP)
        largest, total, out = attend_run(
            largest, total, out, q, keys, values, key_scales, value_scales, slot, seen, softmax_scale, K, DOT
        )
    at = (row * H + g * each + h) * SPLITS + split
    tl.store(maxima + at, largest, mask=is_query)
    tl.store(sums + at, total, mask=is_query)
    tl.store(parts + at[:, None] * K + d[None, :], out, mask=(is_query & (total != 0))[:, None])


@triton.jit
def combine_splits(parts, maxima, sums, out, H: tl.constexpr, K: tl.constexpr, SPLITS: tl.constexpr):
    """Grid: (H, rows). Splits without positions are not read; a row without any is zero. NaN stays NaN."""
    h, row = tl.program_id(0), tl.program_id(1)
    s, d = tl.arange(0, SPLITS), tl.arange(0, K)
    at = (row * H + h) * SPLITS + s
    total = tl.load(sums + at)
    largest = tl.load(maxima + at)
    factor = tl.exp2(largest - tl.max(largest, 0))
    part = tl.load(parts + at[:, None] * K + d[None, :], mask=(total != 0)[:, None], other=0.0)
    whole = tl.sum(factor * total, 0)
    y = tl.sum(part * factor[:, None], 0) / tl.where(whole == 0, 1.0, whole)
    tl.store(out + (row * H + h) * K + d, y)


def attention_step(
    query: Tensor,
    kv: LayerKV,
    positions: Tensor,
    table: Tensor,
    window: int | None,
    parts: Parts,
    out: Tensor,
    shape: AttentionShape,
) -> tuple[Launch, Launch]:
    """query, out: (B, H*K) float32. Each row sees the positions up to its own; with a window the last so many of them.

    A row at position -1 sees none, and its output is zero. positions (B) int32; table (B, blocks) int32. Raises
    ValueError for other tensors.
    """
    rows, groups, head_dim = len(query), kv.groups, kv.head_dim
    heads = query.shape[1] // head_dim
    _expect(query, kv, positions, table, parts, out, shape)
    if (window is not None and window < 1) or heads % groups:
        raise ValueError(f"a window of {window} positions, or {heads} heads over {groups}, cannot be")
    dot = DOT if kv.keys.dtype != torch.float32 else tl.float32
    sizes = {"H": heads, "G": groups, "K": head_dim, "BLOCK": BLOCK, "STEP": shape.step, "SPLITS": shape.splits}
    queries = max(LEAST_DOT, power_of_two(heads // groups))
    handed = (parts.values, parts.maxima, parts.sums)
    scale = head_dim**-0.5 * LOG2_E
    arguments = (query, *kv.read, positions, table, *handed, table.shape[1], window or 0, scale)
    options = {**sizes, "QUERIES": queries, "DOT": dot, "num_warps": shape.warps}
    of_heads = {"H": heads, "K": head_dim, "SPLITS": shape.splits, "num_warps": 4}
    return (
        Launch(attend_split, (groups, rows, shape.splits), arguments, options),
        Launch(combine_splits, (heads, rows), (*handed, out), of_heads),
    )


def _expect(
    query: Tensor,
    kv: LayerKV,
    positions: Tensor,
    table: Tensor,
    parts: Parts,
    out: Tensor,
    shape: AttentionShape,
) -> None:
    rows, width, splits = *query.shape, shape.splits
    of_splits = (rows, width // kv.head_dim, splits)
    expect_tensors(
        query.device,
        query=(query, (rows, width // kv.head_dim * kv.head_dim), FLOAT32),
        out=(out, (rows, width), FLOAT32),
        positions=(positions, (rows,), INT32),
        table=(table, (rows, table.shape[-1]), INT32),
        values_of_parts=(parts.values, (*of_splits, kv.head_dim), FLOAT32),
        maxima=(parts.maxima, of_splits, FLOAT32),
        sums=(parts.sums, of_splits, FLOAT32),
        keys=(kv.keys, kv.keys.shape, (kv.keys.dtype,)),
    )
    expect_power_of_two("the head width", kv.head_dim)
    expect_power_of_two("splits", splits)
    expect_power_of_two("positions at once", shape.step)
