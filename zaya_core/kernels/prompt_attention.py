"""Flash attention of a prompt's new tokens over the paged K/V cache, by the native library (`abi.h`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from quant.kernels.pointers import address, expect_within, pair_of, rows_of, strided
from zaya_core.kernels.abi import PromptAttention
from zaya_core.kernels.key_values import KeyValues
from zaya_core.kernels.layer import NativeLayer

_LARGEST = (1 << 31) - 1  # position, which the library counts in 32 bits


def can_attend(layer: NativeLayer, dtype: torch.dtype) -> bool:
    """Whether the instruction set has steps for keys and values of this width. dtype: the model's."""
    return dtype == torch.bfloat16 and layer.has_prompt_attention and layer.head_dim % 32 == 0


def attend_prompt(
    layer: NativeLayer, qkv: Sequence[Tensor], cache: KeyValues, past: Tensor, lengths: Tensor, window: int | None
) -> Tensor:
    """softmax(q k^T / sqrt(K)) v, where each token sees the last `window` positions up to its own (None: all).

    qkv: query (B, T, H*K), key and value (B, T, G*K), float32, of which the last two are stored in the cache;
    cache: the layer's, in bf16 or int8; past (B): positions before the first column, lengths (B): real columns, both
    int64 -> (B, T, H*K) float32, zero behind the real columns.
    Queries and weights are rounded to bf16 where the processor multiplies bf16. A token's bits do not depend on what
    is worked out with it. Raises ValueError for keys in float32, or tensors that do not fit each other.
    """
    if strided(cache.storage[0], "keys").dtype == torch.float32 or not can_attend(layer, torch.bfloat16):
        raise ValueError("keys and values in float32, or of this width, have no native prompt attention")
    query, key, value, past, lengths = (rows_of(x, "what attends") for x in (*qkv, past, lengths))
    batch, columns = pair_of(query, "query")
    of_past, of_lengths = (address(x, "past and lengths", (batch,), torch.int64) for x in (past, lengths))
    widths = (layer.query_width, layer.key_width, layer.key_width)
    of_qkv = [
        address(x, "query, key or value", (batch, columns, width), torch.float32)
        for x, width in zip((query, key, value), widths, strict=True)
    ]
    real = lengths.tolist()
    _expect_places(columns, cache, past.tolist(), real, window)
    out = torch.empty_like(query) if min(real, default=0) == columns else torch.zeros_like(query)
    arguments = PromptAttention(
        torch.get_num_threads(), batch, columns, *of_qkv, cache.pointers(batch, layer.key_heads, layer.head_dim),
        window or 0, of_past, of_lengths, address(out, "out", query.shape, torch.float32),
    )  # fmt: skip
    layer.library.zaya_prompt_attention(layer.index, ctypes.c_void_p(layer.address), ctypes.byref(arguments))
    return out


def _expect_places(columns: int, cache: KeyValues, past: list[int], lengths: list[int], window: int | None) -> None:
    """Raises ValueError for rows that do not fit their columns or blocks, or a window without a position."""
    expect_within("lengths", lengths, 0, columns)
    expect_within("past", past, 0, _LARGEST)
    if window is not None:
        expect_within("window", (window,), 1, _LARGEST)
    room = (0, *strided(cache.tables, "tables").shape)[-1] * cache.block_size
    expect_within("ends of rows", map(sum, zip(past, lengths, strict=True)), 0, room)
