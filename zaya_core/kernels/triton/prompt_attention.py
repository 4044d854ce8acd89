"""Attention of a prompt's chunk over the paged cache (reference: `ZayaAttention`); no T x S scores are ever kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton.arguments import FLOATS, expect_power_of_two, expect_tensors
from quant.kernels.triton.choice import INTERPRETER, architecture
from quant.kernels.triton.launch import DOT, Launch, power_of_two, run_all
from zaya_core.cache.arrangement import BLOCK
from zaya_core.kernels.triton.online_softmax import LEAST_DOT, LOG2_E, attend_run, slots_of_run
from zaya_core.kernels.triton.paged_cache import LayerKV
from zaya_core.kernels.triton.stored import store_float, writable

_WHOLE = (torch.int64, torch.int32)


@dataclass(frozen=True)
class PromptShape:
    """rows: queries of a group's heads at once; step: positions at once; warps, stages: Triton's options."""

    rows: int
    step: int
    warps: int
    stages: int = 1


def prompt_shape(architecture: str, kv: torch.dtype) -> PromptShape:
    """For keys and values in this dtype: what leaves all numbers in registers."""
    if architecture == INTERPRETER:
        return PromptShape(32, 64, 4)
    if kv == torch.float32:
        return PromptShape(16, 16, 8)
    if architecture.startswith("gfx1"):  # RDNA
        return PromptShape(64, 16, 8)
    return PromptShape(64, 32, 4)


# Every chunk has other numbers and other places of them, for each of which it would be compiled anew.
@triton.jit(do_not_specialize=["T", "blocks"], do_not_specialize_on_alignment=["tables", "ends", "lengths"])
def attend_chunk(
    query,
    keys,
    values,
    key_scales,
    value_scales,
    tables,
    ends,
    lengths,
    out,
    T,
    blocks,
    window,
    softmax_scale,
    H: tl.constexpr,
    G: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    EACH: tl.constexpr,
    STEP: tl.constexpr,
    DOT: tl.constexpr,
):
    """Grid: (T / (ROWS / EACH), G, B). ROWS: some tokens' queries of a group's heads, padded to EACH of a token.

    The last tokens, which see most, begin first.
    """
    g, b = tl.program_id(1), tl.program_id(2)
    tokens: tl.constexpr = ROWS // EACH
    first = (tl.num_programs(0) - 1 - tl.program_id(0)) * tokens
    length = tl.load(lengths + b).to(tl.int32)
    past = tl.load(ends + b).to(tl.int32) - length
    m, d = tl.arange(0, ROWS), tl.arange(0, K)
    t, j = first + m // EACH, m % EACH
    base = ((b * T + first).to(tl.int64) * H + g * (H // G)) * K
    at = (m // EACH * H + j)[:, None] * K + d[None, :]
    is_query = (t < T) & (j < H // G)
    q = tl.load(query + base + at, mask=(is_query & (t < length))[:, None], other=0.0).to(tl.float32)
    begin = tl.maximum(past + first + 1 - window, 0)
    if window == 0:
        begin = 0
    end = past + tl.minimum(first + tokens, length)
    if first >= length:
        end = 0
    largest = tl.full((ROWS,), -1e30, tl.float32)
    total, mixed = tl.zeros((ROWS,), tl.float32), tl.zeros((ROWS, K), tl.float32)
    for start in range(begin // STEP * STEP, end, STEP):
        p = (start + tl.arange(0, STEP))[None, :]
        position = (past + t)[:, None]
        seen = (p <= position) & (t < length)[:, None]
        if window > 0:
            seen = seen & (p > position - window)
        slot = slots_of_run(tables + b * blocks, start, g, G, BLOCK, STEP)
        largest, total, mixed = attend_run(
            largest, total, mixed, q, keys, values, key_scales, value_scales, slot, seen, softmax_scale, K, DOT
        )
    y = mixed / tl.where(total > 0, total, 1.0)[:, None]
    store_float(out + base + at, y, is_query[:, None])


def prompt_attention(
    query: Tensor, kv: LayerKV, tables: Tensor, ends: Tensor, lengths: Tensor, window: int | None
) -> Tensor:
    """query (B, T, H, K) float32 or bfloat16 -> the same of each query's attention, computed without waiting for it.

    tables (B, blocks), ends, lengths (B): int64 or int32, as `CacheStep` has them: of a row's T queries the first
    `lengths` are real and stand at its last positions; of others comes zero. Each sees the positions up to its own;
    with a window the last so many of them. Raises ValueError for other tensors.
    """
    out = torch.empty_like(query)
    shape = prompt_shape(architecture(query.device), kv.keys.dtype)
    run_all([prompt_launch(query, kv, tables, ends, lengths, window, out, shape)], query.device)
    return out


def prompt_launch(
    query: Tensor,
    kv: LayerKV,
    tables: Tensor,
    ends: Tensor,
    lengths: Tensor,
    window: int | None,
    out: Tensor,
    shape: PromptShape,
) -> Launch:
    """See `prompt_attention`."""
    rows, columns, heads, head_dim = query.shape
    _expect(query, kv, tables, ends, lengths, out)
    if (window is not None and window < 1) or heads % kv.groups:
        raise ValueError(f"a window of {window} positions, or {heads} heads over {kv.groups}, cannot be")
    each = power_of_two(heads // kv.groups)
    at_once = max(shape.rows, each, LEAST_DOT)
    dot = DOT if kv.keys.dtype != torch.float32 else tl.float32
    sizes = {"H": heads, "G": kv.groups, "K": head_dim, "BLOCK": BLOCK, "ROWS": at_once, "EACH": each}
    options = {**sizes, "STEP": shape.step, "DOT": dot, "num_warps": shape.warps, "num_stages": shape.stages}
    scale = head_dim**-0.5 * LOG2_E
    numbers = (columns, tables.shape[1], window or 0, scale)
    arguments = (query, *kv.read, tables, ends, lengths, writable(out), *numbers)
    grid = (-(-columns // (at_once // each)), kv.groups, rows)
    return Launch(attend_chunk, grid, arguments, options)


def _expect(query: Tensor, kv: LayerKV, tables: Tensor, ends: Tensor, lengths: Tensor, out: Tensor) -> None:
    rows, shape = len(query), (*query.shape[:3], kv.head_dim)
    expect_tensors(
        query.device,
        query=(query, shape, FLOATS),
        out=(out, shape, (query.dtype,)),
        tables=(tables, (rows, tables.shape[-1]), _WHOLE),
        ends=(ends, (rows,), _WHOLE),
        lengths=(lengths, (rows,), _WHOLE),
        keys=(kv.keys, kv.keys.shape, (kv.keys.dtype,)),
    )
    expect_power_of_two("the head width", kv.head_dim)
