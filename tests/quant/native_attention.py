"""`zaya_attend` of one layer, by itself: the library's callers reach it through `zaya_decode`."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from quant.kernels.layer import KV_DTYPES


class _Attention(ctypes.Structure):
    """`ZayaAttention`."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("threads", "format")),
        ("batch", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in ("query", "key", "value", "keys", "values", "key_scales", "value_scales")
        ),
        *((name, ctypes.c_int64) for name in ("block_size", "most_blocks")),
        *((name, ctypes.c_void_p) for name in ("slots", "tables", "begin", "end", "out")),
    )


def attend(layer, query, key, value, storage, slots, tables, begin, end):
    """query, key, value: (B, 1, ...); the rest as in `layer.h` -> (B, 1, H*K)."""
    keys, *_ = storage
    out = torch.empty_like(query)
    arguments = _Attention(
        torch.get_num_threads(), KV_DTYPES.index(keys.dtype), len(query),
        *map(Tensor.data_ptr, (query, key, value)), *(x.data_ptr() for x in storage), *[None] * (4 - len(storage)),
        keys.shape[1], tables.shape[1],
        *map(Tensor.data_ptr, (slots, tables, begin, end, out)),
    )  # fmt: skip
    layer.library.zaya_attend(layer.index, ctypes.c_void_p(layer.address), ctypes.byref(arguments))
    return out
