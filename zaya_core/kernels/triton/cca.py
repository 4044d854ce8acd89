"""A token's way from the projections to attention (reference: `ZayaCCAProjection`, `ZayaQKNorm`,
`ZayaRotaryEmbedding`): both convolutions and what bypasses them, norm, temperature, rotary, delayed values."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton.arguments import FLOAT32, FLOATS, INT32, expect_power_of_two, expect_tensors
from quant.kernels.triton.launch import Launch
from zaya_core.cache.arrangement import BLOCK
from zaya_core.kernels.triton.paged_cache import LayerKV
from zaya_core.kernels.triton.stored import load_float, narrowest, nearest_int8, store_float, writable
from zaya_core.model.cca import CausalConvolutions
from zaya_core.model.norm import QKNorm


@triton.jit
def convolved(now, before, last, taps, bias, grouped, grouped_bias, head, C, K: tl.constexpr, CHUNK: tl.constexpr):
    """A head's channels behind both convolutions. now, before, last: the row's columns of this token, of two before it
    and of one before it -> (K).

    The depthwise convolution is computed for a chunk of channels at a time, as the grouped one needs them.
    """
    d = tl.arange(0, K)
    total = tl.load(grouped_bias + head * K + d)
    for start in range(0, K, CHUNK):
        i = start + tl.arange(0, CHUNK)
        at = head * K + i
        w0, w1, b = tl.load(taps + at), tl.load(taps + C + at), tl.load(bias + at)
        x0, x1, x2 = load_float(before + at, i < K), load_float(last + at, i < K), tl.load(now + at)
        first, second = b + x0 * w0 + x1 * w1, b + x1 * w0 + x2 * w1
        weight = grouped + (head * 2 * K + i)[:, None] * K + d[None, :]
        of_first, of_second = tl.load(weight).to(tl.float32), tl.load(weight + K * K).to(tl.float32)
        total += tl.sum(first[:, None] * of_first + second[:, None] * of_second, 0)
    return total


@triton.jit
def skip_path(now, head, H: tl.constexpr, G: tl.constexpr, K: tl.constexpr):
    """Each query averaged with its group's key, each key with the mean of its group's queries -> (K)."""
    d = tl.arange(0, K)
    own = tl.load(now + head * K + d)
    each: tl.constexpr = H // G
    if head < H:
        other = tl.load(now + (H + head // each) * K + d)
    else:
        other = tl.zeros((K,), tl.float32)
        for j in range(each):
            other += tl.load(now + ((head - H) * each + j) * K + d)
        other = other / each
    return (own + other) * 0.5


@triton.jit
def rotated(x, cos, sin, K: tl.constexpr, ROTATED: tl.constexpr):
    """The first dimensions of a head turned by their angles. x: (K); cos, sin: of the row."""
    d = tl.arange(0, K)
    half: tl.constexpr = ROTATED // 2
    partner = tl.where(d < half, d + half, tl.where(d < ROTATED, d - half, d))
    turned = tl.where(d < half, -1.0, 1.0) * tl.gather(x, partner, 0)
    inside = d < ROTATED
    return x * tl.load(cos + d, mask=inside, other=1.0) + turned * tl.load(sin + d, mask=inside, other=0.0)


@triton.jit
def value_of(now, old, new, g, H: tl.constexpr, G: tl.constexpr, K: tl.constexpr):
    """A head's value: of all heads' numbers the first half is this token's, the second the one that the token before
    left. Leaves the next token its own. now: the row's projections; old, new: its delayed values -> (K)."""
    d = tl.arange(0, K)
    half: tl.constexpr = G * K // 2
    e = g * K + d
    is_delayed = e >= half
    own = tl.load(now + (H + G) * K + e)
    store_float(new + e - half, own, is_delayed)
    return tl.where(is_delayed, load_float(old + e - half, is_delayed), own)


@triton.jit
def store_row(rows, scales, slot, x, K: tl.constexpr):
    """A key or value into its slot, in the dtype of the cache. x: (K)."""
    at = rows + slot * K + tl.arange(0, K)
    if rows.dtype.element_ty == tl.int8:
        codes, scale = nearest_int8(x)
        tl.store(scales + slot, scale)
        tl.store(at, codes)
    else:
        store_float(at, x, tl.arange(0, K) < K)


@triton.jit
def cca_of_token(
    qkv,
    taps,
    bias,
    grouped,
    grouped_bias,
    head_scale,
    cos,
    sin,
    positions,
    table,
    tail,
    delayed,
    slot_in,
    slot_out,
    keys,
    values,
    key_scales,
    value_scales,
    query,
    blocks,
    eps,
    H: tl.constexpr,
    G: tl.constexpr,
    K: tl.constexpr,
    ROTATED: tl.constexpr,
    BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Grid: (H + G, rows). Writes slots of CCA's state that no row of the launch reads."""
    head, row = tl.program_id(0), tl.program_id(1)
    C: tl.constexpr = (H + G) * K
    d = tl.arange(0, K)
    position = tl.load(positions + row)
    if position >= 0:
        now = qkv + row * (C + G * K)
        old, new = tl.load(slot_in + row).to(tl.int64), tl.load(slot_out + row).to(tl.int64)
        before, last = tail + old * 2 * C, tail + (old * 2 + 1) * C
        x = convolved(now, before, last, taps, bias, grouped, grouped_bias, head, C, K, CHUNK)
        x += skip_path(now, head, H, G, K)
        x *= tl.load(head_scale + head) / tl.maximum(tl.sqrt(tl.sum(x * x, 0)), eps)
        x = rotated(x, cos + row * ROTATED, sin + row * ROTATED, K, ROTATED)
        at = tail + new * 2 * C + head * K + d
        store_float(at, load_float(last + head * K + d, d < K), d < K)
        store_float(at + C, tl.load(now + head * K + d), d < K)
        if head < H:
            tl.store(query + (row * H + head) * K + d, x)
        else:
            g = head - H
            half: tl.constexpr = G * K // 2
            value = value_of(now, delayed + old * half, delayed + new * half, g, H, G, K)
            block = tl.load(table + row * blocks + position // BLOCK).to(tl.int64)
            slot = (block * G + g) * BLOCK + position % BLOCK
            store_row(keys, key_scales, slot, x, K)
            store_row(values, value_scales, slot, value, K)
    elif head < H:
        tl.store(query + (row * H + head) * K + d, tl.zeros((K,), tl.float32))


@dataclass(frozen=True)
class CCAWeights:
    """Of one layer, as the kernel reads them. Made by `of`.

    taps (2, C), bias (C), grouped (H + G, 2 * K, K) float32 or bfloat16, grouped_bias (C), head_scale (H + G): sqrt(K),
    of keys times their temperature; others float32.
    """

    taps: Tensor
    bias: Tensor
    grouped: Tensor
    grouped_bias: Tensor
    head_scale: Tensor
    eps: float

    @classmethod
    def of(cls, convolutions: CausalConvolutions, qk_norm: QKNorm) -> CCAWeights:
        """Raises ValueError for convolutions over more columns than two each, or heads that are no power of two."""
        taps, width = len(convolutions.depthwise_taps), convolutions.grouped_width
        if (taps, width) != (2, 2):
            raise ValueError(f"the kernel has convolutions over 2 and 2 columns; these are over {taps} and {width}")
        expect_power_of_two("the head width", convolutions.head_dim)
        return cls(
            convolutions.depthwise_taps,
            convolutions.depthwise_bias.contiguous(),
            narrowest(convolutions.grouped_weight),
            convolutions.grouped_bias.flatten().contiguous(),
            qk_norm.scale.flatten().contiguous(),
            qk_norm.eps,
        )


@dataclass(frozen=True)
class CCAState:
    """Of one layer, in slots at fixed addresses, and which of them a step's rows have.

    tail (slots, 2, C), delayed (slots, G*K/2): float32 or bfloat16. slot_in, slot_out: (B) int32, where a row's state
    is, and where its new one is written: a slot that no row has in slot_in, and no other row in slot_out.
    """

    tail: Tensor
    delayed: Tensor
    slot_in: Tensor
    slot_out: Tensor


def cca(
    qkv: Tensor,
    weights: CCAWeights,
    angles: tuple[Tensor, Tensor],
    positions: Tensor,
    table: Tensor,
    state: CCAState,
    kv: LayerKV,
    query: Tensor,
) -> Launch:
    """qkv (B, (H+G)*K + G*K): queries, keys, values of this token and for the next -> query (B, H*K), both float32.

    Keys and values go into the cache at the row's position, the new state into its slot; nothing of a row at position
    -1, whose query is zero. angles: cos, sin (B, rotated) float32; positions (B) int32; table (B, blocks) int32.
    Raises ValueError for other tensors.
    """
    rows, groups, head_dim = len(qkv), kv.groups, kv.head_dim
    rotated_width, channels = angles[0].shape[-1], weights.taps.shape[1]
    heads = channels // head_dim - groups
    expect_power_of_two("the head width", head_dim)
    _expect_state(state, rows, channels, groups * head_dim // 2, qkv.device)
    _expect_weights(weights, heads + groups, head_dim, qkv.device)
    expect_tensors(
        qkv.device,
        qkv=(qkv, (rows, channels + groups * head_dim), FLOAT32),
        cos=(angles[0], (rows, rotated_width), FLOAT32),
        sin=(angles[1], (rows, rotated_width), FLOAT32),
        positions=(positions, (rows,), INT32),
        table=(table, (rows, table.shape[-1]), INT32),
        query=(query, (rows, heads * head_dim), FLOAT32),
        keys=(kv.keys, kv.keys.shape, (kv.keys.dtype,)),
    )
    if heads % groups or rotated_width % 2 or rotated_width > head_dim:
        raise ValueError(f"{heads} heads over {groups}, or {rotated_width} of {head_dim} numbers rotated, cannot be")
    vectors = (weights.taps, weights.bias, weights.grouped, weights.grouped_bias, weights.head_scale)
    slots = (writable(state.tail), writable(state.delayed), state.slot_in, state.slot_out)
    arguments = (qkv, *vectors, *angles, positions, table, *slots, *kv.written, query, table.shape[-1], weights.eps)
    sizes = {"H": heads, "G": groups, "K": head_dim, "ROTATED": rotated_width}
    options = {**sizes, "BLOCK": BLOCK, "CHUNK": min(32, head_dim), "num_warps": 8 if head_dim >= 64 else 4}
    return Launch(cca_of_token, (heads + groups, rows), arguments, options)


def _expect_state(state: CCAState, rows: int, channels: int, delayed: int, device: torch.device) -> None:
    slots, dtype = len(state.tail), (state.tail.dtype,)
    expect_tensors(
        device,
        tail=(state.tail, (slots, 2, channels), FLOATS),
        delayed=(state.delayed, (slots, delayed), dtype),
        slot_in=(state.slot_in, (rows,), INT32),
        slot_out=(state.slot_out, (rows,), INT32),
    )


def _expect_weights(weights: CCAWeights, heads: int, head_dim: int, device: torch.device) -> None:
    """heads: H + G."""
    channels = heads * head_dim
    expect_tensors(
        device,
        taps=(weights.taps, (2, channels), FLOAT32),
        bias=(weights.bias, (channels,), FLOAT32),
        grouped=(weights.grouped, (heads, 2 * head_dim, head_dim), FLOATS),
        grouped_bias=(weights.grouped_bias, (channels,), FLOAT32),
        head_scale=(weights.head_scale, (heads,), FLOAT32),
    )
