"""`zaya_attend` of one layer by itself, which the library's callers reach through `zaya_decode`, and storage for it."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from quant.kernels.key_values import KeyValuePointers


class _Attention(ctypes.Structure):
    """`ZayaAttention`."""

    _fields_ = (
        ("threads", ctypes.c_int32),
        ("batch", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("query", "key", "value")),
        ("cache", KeyValuePointers),
        *((name, ctypes.c_void_p) for name in ("slots", "begin", "end", "out")),
    )


def attend(layer, query, key, value, cache, slots, begin, end):
    """query, key, value: (B, 1, ...); the rest as in `layer.h` -> (B, 1, H*K)."""
    out = torch.empty_like(query)
    arguments = _Attention(
        torch.get_num_threads(), len(query), *map(Tensor.data_ptr, (query, key, value)), cache.pointers(),
        *map(Tensor.data_ptr, (slots, begin, end, out)),
    )  # fmt: skip
    layer.library.zaya_attend(layer.index, ctypes.c_void_p(layer.address), ctypes.byref(arguments))
    return out


def laid_out(storage):
    """Keys and values (blocks, BLOCK, G, K), maybe scales (blocks, BLOCK, G), laid out as in `key_values.h`."""
    keys, values, *scales = storage
    each = 4 // keys.dtype.itemsize
    keys = keys.unflatten(1, (-1, 16)).unflatten(-1, (-1, each)).permute(0, 3, 1, 4, 2, 5)
    values = values.unflatten(1, (-1, each)).unflatten(-1, (-1, 16)).permute(0, 3, 4, 1, 5, 2)
    return [tensor.contiguous() for tensor in (keys, values, *(one.transpose(1, 2) for one in scales))]


def by_position(storage):
    """The way back."""
    keys, values, *scales = storage
    keys = keys.permute(0, 2, 4, 1, 3, 5).flatten(-2).flatten(1, 2)
    values = values.permute(0, 3, 5, 1, 2, 4).flatten(-2).flatten(1, 2)
    return [keys, values, *(one.transpose(1, 2) for one in scales)]
