"""The structs of `abi.h` for ctypes, and the check that the library's model steps were built from the same ones."""

from __future__ import annotations

import ctypes
from functools import cache

from quant.kernels import abi as quant
from quant.kernels.native import NativeProducts

_INT32, _INT64, _FLOAT, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
VERSION = 1


class Merge(ctypes.Structure):
    """`ZayaMerge`."""

    _fields_ = (("branch_scale", _POINTER), ("residual_scale", _POINTER), ("constant", _POINTER))


class Layer(ctypes.Structure):
    """`ZayaLayer`."""

    _fields_ = (
        *((name, _INT64) for name in ("hidden", "query_heads", "key_heads", "head_dim")),
        *((name, _INT32) for name in ("dense_format", "expert_format")),
        *((name, _FLOAT) for name in ("rms_norm_eps", "length_eps")),
        ("input_norm", _POINTER),
        *((name, quant.Matrix) for name in ("q", "k", "v_current", "v_delayed", "o")),
        *((name, _POINTER) for name in ("qkv_bias", "o_bias")),
        *((name, _INT64) for name in ("depthwise_taps", "grouped_taps")),
        *((name, _POINTER) for name in ("depthwise_weight", "depthwise_bias")),
        ("grouped", quant.Panels),
        ("head_scale", _POINTER),
        *((name, Merge) for name in ("attention_merge", "mlp_merge")),
        ("post_attention_norm", _POINTER),
        *((name, quant.Panels) for name in ("router_down", "router_fc1", "router_fc2", "router_out")),
        *((name, _POINTER) for name in ("router_states_scale", "router_norm", "balancing_biases")),
        *((name, _INT64) for name in ("experts", "expert_width")),
        *((name, _POINTER) for name in ("gate_up", "down")),
        ("skip_keeps_input", _INT32),
    )


class Cca(ctypes.Structure):
    """`ZayaCca`."""

    _fields_ = (
        *((name, _INT32) for name in ("threads", "is_bf16")),
        *((name, _INT64) for name in ("batch", "columns")),
        *((name, _POINTER) for name in ("lengths", "residual", "tail", "delayed", "new_tail", "new_delayed")),
        ("rotated", _INT64),
        *((name, _POINTER) for name in ("cos", "sin", "query", "key", "value")),
    )


class PagedCache(ctypes.Structure):
    """`ZayaPagedCache`."""

    _fields_ = (
        ("format", _INT32),
        *((name, _POINTER) for name in ("keys", "values", "key_scales", "value_scales")),
        *((name, _INT64) for name in ("block_size", "most_blocks")),
        ("tables", _POINTER),
    )


class DecodeAttention(ctypes.Structure):
    """`ZayaDecodeAttention`."""

    _fields_ = (
        ("threads", _INT32),
        ("batch", _INT64),
        *((name, _POINTER) for name in ("query", "key", "value")),
        ("cache", PagedCache),
        *((name, _POINTER) for name in ("slots", "begin", "end", "out")),
    )


class PromptAttention(ctypes.Structure):
    """`ZayaPromptAttention`."""

    _fields_ = (
        ("threads", _INT32),
        *((name, _INT64) for name in ("batch", "columns")),
        *((name, _POINTER) for name in ("query", "key", "value")),
        ("cache", PagedCache),
        ("window", _INT64),
        *((name, _POINTER) for name in ("past", "lengths", "out")),
    )


class Moe(ctypes.Structure):
    """`ZayaMoe`."""

    _fields_ = (
        *((name, _INT32) for name in ("threads", "attention_is_bf16", "has_state")),
        ("rows", _INT64),
        *((name, _POINTER) for name in ("attention", "residual", "state", "choice")),
    )


class Embedding(ctypes.Structure):
    """`ZayaEmbedding`."""

    _fields_ = (
        ("format", _INT32),
        *((name, _INT64) for name in ("hidden", "vocabulary")),
        ("matrix", quant.Matrix),
        *((name, _POINTER) for name in ("bias", "scale")),
    )


class Head(ctypes.Structure):
    """`ZayaHead`."""

    _fields_ = (
        *((name, _INT32) for name in ("format", "rounds_to_bf16")),
        *((name, _INT64) for name in ("hidden", "vocabulary")),
        ("rms_norm_eps", _FLOAT),
        ("norm", _POINTER),
        ("matrix", quant.Matrix),
        ("bias", _POINTER),
    )


class AttentionKind(ctypes.Structure):
    """`ZayaAttentionKind`."""

    _fields_ = (("rotated", _INT64), *((name, _POINTER) for name in ("cos", "sin", "begin")))


class Decode(ctypes.Structure):
    """`ZayaDecode`."""

    _fields_ = (
        *((name, _INT32) for name in ("threads", "is_bf16", "format")),
        *((name, _INT64) for name in ("batch", "layers")),
        *((name, _POINTER) for name in ("embedding", "layer", "kind", "head", "kinds", "ids")),
        *((name, _POINTER) for name in ("tails", "delayed", "new_tails", "new_delayed", "storage")),
        *((name, _INT64) for name in ("block_size", "most_blocks")),
        *((name, _POINTER) for name in ("slots", "tables", "end", "choices", "logits")),
    )


class Sample(ctypes.Structure):
    """`ZayaSample`."""

    _fields_ = (
        ("threads", _INT32),
        *((name, _FLOAT) for name in ("temperature", "top_p", "min_p")),
        ("top_k", _INT64),
        ("uniform", ctypes.c_double),
        ("n", _INT64),
        ("logits", _POINTER),
    )


STRUCTS: tuple[type[ctypes.Structure], ...] = (
    Merge,
    Layer,
    Cca,
    PagedCache,
    DecodeAttention,
    PromptAttention,
    Moe,
    Embedding,
    Head,
    AttentionKind,
    Decode,
    Sample,
)  # fmt: skip  (all, as in ZAYA_ABI_STRUCTS)


@cache
def steps_of(products: NativeProducts) -> ctypes.CDLL:
    """The library of these products, of which the model's steps fit this Python.

    Raises StaleLibraryError where they were built from other structs, or for other instruction sets than the products.
    """
    library = products.library
    quant.expect_abi(library, "zaya", "Zaya", VERSION, STRUCTS)
    library.zaya_instruction_set.restype = ctypes.c_char_p
    library.zaya_sample.restype = ctypes.c_int64
    library.zaya_logsumexp.restype = ctypes.c_double
    index = 0
    while (name := library.zaya_instruction_set(index)) == library.quant_instruction_set(index) and name:
        index += 1
    if name or library.quant_instruction_set(index):
        raise quant.stale("is stale: its products and its model steps are of different instruction sets")
    return library
