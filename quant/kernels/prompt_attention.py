"""Attention of a prompt's new tokens over the cache, by this folder's library (`layer.h`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from quant.kernels.layer import KV_DTYPES, NativeLayer

_INT32, _INT64, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p


class _PromptAttention(ctypes.Structure):
    """`ZayaPromptAttention`."""

    _fields_ = (
        *((name, _INT32) for name in ("threads", "format")),
        *((name, _INT64) for name in ("batch", "columns")),
        *((name, _POINTER) for name in ("query", "keys", "values", "key_scales", "value_scales")),
        *((name, _INT64) for name in ("block_size", "most_blocks", "window")),
        *((name, _POINTER) for name in ("tables", "past", "lengths", "out")),
    )


def can_attend(layer: NativeLayer, dtype: torch.dtype) -> bool:
    """Whether the instruction set has products for keys and values of this width. dtype: the model's."""
    return dtype == torch.bfloat16 and layer.has_bf16 and layer.head_dim % 32 == 0


def attend_prompt(
    layer: NativeLayer, query: Tensor, storage: Sequence[Tensor], tables: Tensor, past: Tensor, lengths: Tensor,
    window: int | None,
) -> Tensor:  # fmt: skip
    """softmax(q k^T / sqrt(K)) v, where each token sees the last `window` positions up to its own (None: all).

    query: (B, T, H*K) float32; storage: the layer's keys and values (blocks, BLOCK, G, K) in bf16 or int8, with int8
    the scales of both (blocks, BLOCK, G) float32, the new tokens' among them; tables (B, blocks), past (B): positions
    before the first column, lengths (B): real columns, all int64 -> (B, T, H*K) float32, zero behind the real columns.
    Queries and weights are rounded to bf16 where the processor multiplies bf16. A token's bits do not depend on what
    is worked out with it. Raises ValueError for keys in float32.
    """
    keys = storage[0]
    if keys.dtype == torch.float32:
        raise ValueError("keys and values in float32 have no native prompt attention")
    query, tables, past, lengths = (x.contiguous() for x in (query, tables, past, lengths))
    out = torch.empty_like(query) if int(lengths.min()) == query.shape[1] else torch.zeros_like(query)
    arguments = _PromptAttention(
        torch.get_num_threads(), KV_DTYPES.index(keys.dtype), query.shape[0], query.shape[1],
        query.data_ptr(), *(tensor.data_ptr() for tensor in storage), *[None] * (4 - len(storage)),
        keys.shape[1], tables.shape[1], window or 0, *map(Tensor.data_ptr, (tables, past, lengths, out)),
    )  # fmt: skip
    layer.library.zaya_attend_prompt(layer.index, ctypes.c_void_p(layer.address), ctypes.byref(arguments))
    return out
