"""The fused steps of a decoder layer of this folder, through their plain C interface (`layer.h`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.kernels.native import FORMATS, NativeProducts
from quant.kernels.parameters import MatrixPointers, NativeMatrix, Parameters
from quant.large_pages import share_large_pages

LANES = 16  # all widths are multiples of it

_INT32, _INT64, _FLOAT, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class _Panels(ctypes.Structure):
    _fields_ = (("weights", _POINTER), ("bias", _POINTER), ("is_bf16", _INT32), ("n", _INT64), ("k", _INT64))


class _Merge(ctypes.Structure):
    _fields_ = (("branch_scale", _POINTER), ("residual_scale", _POINTER), ("constant", _POINTER))


class _Layer(ctypes.Structure):
    _fields_ = (
        *((name, _INT64) for name in ("hidden", "query_heads", "key_heads", "head_dim")),
        *((name, _INT32) for name in ("dense_format", "expert_format")),
        *((name, _FLOAT) for name in ("rms_norm_eps", "length_eps")),
        ("input_norm", _POINTER),
        *((name, MatrixPointers) for name in ("q", "k", "v_current", "v_delayed", "o")),
        *((name, _POINTER) for name in ("qkv_bias", "o_bias")),
        *((name, _INT64) for name in ("depthwise_taps", "grouped_taps")),
        *((name, _POINTER) for name in ("depthwise_weight", "depthwise_bias")),
        ("grouped", _Panels),
        ("head_scale", _POINTER),
        *((name, _Merge) for name in ("attention_merge", "mlp_merge")),
        ("post_attention_norm", _POINTER),
        *((name, _Panels) for name in ("router_down", "router_fc1", "router_fc2", "router_out")),
        *((name, _POINTER) for name in ("router_states_scale", "router_norm", "balancing_biases")),
        *((name, _INT64) for name in ("experts", "expert_width")),
        *((name, _POINTER) for name in ("gate_up", "down")),
        ("skip_keeps_input", _INT32),
    )


class _Projection(ctypes.Structure):
    _fields_ = (
        *((name, _INT32) for name in ("threads", "is_bf16")),
        *((name, _INT64) for name in ("batch", "columns")),
        *((name, _POINTER) for name in ("lengths", "residual", "tail", "delayed", "new_tail", "new_delayed")),
        ("rotated", _INT64),
        *((name, _POINTER) for name in ("cos", "sin", "query", "key", "value")),
    )


class _Mixture(ctypes.Structure):
    _fields_ = (
        *((name, _INT32) for name in ("threads", "attention_is_bf16", "has_state")),
        ("rows", _INT64),
        *((name, _POINTER) for name in ("attention", "residual", "state", "choice")),
    )


@dataclass(frozen=True)
class LayerParameters:
    """What a layer consists of. Vectors are float32; D, H, G, K, R, E, F and C as in `zaya_core`.

    `qkv`: q, k, current and delayed v; `gate_up`, `down`: one of each expert (2F, D), (D, F).
    `depthwise_taps` (taps, C), `grouped_weight` (C, taps * K): an output channel's weights for its head's columns, the
    earliest first.
    Merges: scale of the branch, scale of the residual, constant. Routers' layers: weight (n, k), bias (n) or None.
    """

    query_heads: int
    head_dim: int
    rms_norm_eps: float
    length_eps: float
    input_norm: Tensor
    qkv: Sequence[NativeMatrix]
    qkv_bias: Tensor | None
    o: NativeMatrix
    o_bias: Tensor | None
    depthwise_taps: Tensor
    depthwise_bias: Tensor
    grouped_weight: Tensor
    grouped_bias: Tensor
    head_scale: Tensor
    attention_merge: Sequence[Tensor]
    mlp_merge: Sequence[Tensor]
    post_attention_norm: Tensor
    router: Sequence[tuple[Tensor, Tensor | None]]
    router_states_scale: Tensor | None
    router_norm: Tensor
    balancing_biases: Tensor
    gate_up: Sequence[NativeMatrix]
    down: Sequence[NativeMatrix]
    expert_width: int
    skip_keeps_input: bool


def to_panels(weight: Tensor) -> Tensor:
    """weight: (n, k) -> (n/16 rounded up, k, 16), in bf16 where that loses nothing, else float32."""
    padded = F.pad(weight.float(), (0, 0, 0, -len(weight) % LANES))
    panels = padded.unflatten(0, (-1, LANES)).transpose(1, 2).contiguous()
    short = panels.bfloat16()
    return short if torch.equal(short.float(), panels) else panels


class NativeLayer(Parameters):
    """The steps of one layer around its attention: `project` and `mix`; `NativeDecoder` has all of it.

    The same bits on every instruction set where the weights are integers, and for a row alone and among others.
    """

    def __init__(self, products: NativeProducts, parameters: LayerParameters):
        super().__init__(products)
        self.has_prompt_attention = products.has_prompt_attention
        self.panel_nbytes = 0
        p = parameters
        self.head_dim = p.head_dim
        self.query_width = p.query_heads * p.head_dim
        self.key_width = len(p.head_scale) * p.head_dim - self.query_width
        self.router_width = len(p.router_norm)
        self._layer = _Layer(
            hidden=len(p.input_norm),
            query_heads=p.query_heads,
            key_heads=len(p.head_scale) - p.query_heads,
            head_dim=p.head_dim,
            dense_format=FORMATS.index(p.o.format),
            expert_format=FORMATS.index(p.down[0].format),
            rms_norm_eps=p.rms_norm_eps,
            length_eps=p.length_eps,
            input_norm=self.pointer(p.input_norm),
            **dict(zip(("q", "k", "v_current", "v_delayed"), map(self.matrix, p.qkv), strict=True)),
            o=self.matrix(p.o),
            qkv_bias=self.pointer(p.qkv_bias),
            o_bias=self.pointer(p.o_bias),
            depthwise_taps=len(p.depthwise_taps),
            grouped_taps=p.grouped_weight.shape[1] // p.head_dim,
            depthwise_weight=self.pointer(p.depthwise_taps),
            depthwise_bias=self.pointer(p.depthwise_bias),
            grouped=self._panels(p.grouped_weight, p.grouped_bias),
            head_scale=self.pointer(p.head_scale),
            attention_merge=_Merge(*map(self.pointer, p.attention_merge)),
            mlp_merge=_Merge(*map(self.pointer, p.mlp_merge)),
            post_attention_norm=self.pointer(p.post_attention_norm),
            **{
                f"router_{name}": self._panels(*layer)
                for name, layer in zip(("down", "fc1", "fc2", "out"), p.router, strict=True)
            },
            router_states_scale=self.pointer(p.router_states_scale),
            router_norm=self.pointer(p.router_norm),
            balancing_biases=self.pointer(p.balancing_biases),
            experts=len(p.down),
            expert_width=p.expert_width,
            gate_up=self._matrices(p.gate_up),
            down=self._matrices(p.down),
            skip_keeps_input=p.skip_keeps_input,
        )
        self._layer_pointer = ctypes.byref(self._layer)
        self.address = ctypes.addressof(self._layer)

    def _matrices(self, matrices: Sequence[NativeMatrix]) -> int:
        array = (MatrixPointers * len(matrices))(*map(self.matrix, matrices))
        self.keep(array)
        return ctypes.addressof(array)

    def _panels(self, weight: Tensor, bias: Tensor | None) -> _Panels:
        panels = share_large_pages(to_panels(weight))
        padded = None if bias is None else F.pad(bias.float(), (0, -len(bias) % LANES))
        is_bf16 = panels.dtype == torch.bfloat16
        self.panel_nbytes += panels.nbytes
        return _Panels(self.pointer(panels), self.pointer(padded), is_bf16, *weight.shape)

    def project(
        self, residual: Tensor, tail: Tensor, delayed: Tensor, lengths: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Residual stream to queries, keys, values and the layer's next state.

        residual: (B, T, D) float32; tail (B, W, C) and delayed (B, G*K/2) in the cache's dtype; lengths: (B) int64, the
        real columns; cos, sin: (B, T, 1, rotated) -> query (B, T, H*K), key, value (B, T, G*K) float32, tail, delayed.
        """
        batch, columns, _ = residual.shape
        query = torch.empty(batch, columns, self.query_width)
        key, value = torch.empty(batch, columns, self.key_width), torch.empty(batch, columns, self.key_width)
        tail, delayed = tail.contiguous(), delayed.contiguous()
        new_tail, new_delayed = torch.empty_like(tail), torch.empty_like(delayed)
        pointers = (lengths, residual, tail, delayed, new_tail, new_delayed)
        arguments = _Projection(
            torch.get_num_threads(), tail.dtype == torch.bfloat16, batch, columns, *map(Tensor.data_ptr, pointers),
            cos.shape[-1], *map(Tensor.data_ptr, (cos, sin, query, key, value)),
        )  # fmt: skip
        self.library.zaya_project(self.index, self._layer_pointer, ctypes.byref(arguments))
        return query, key, value, new_tail, new_delayed

    def mix(self, attention: Tensor, residual: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Output projection, merges, router and experts; `residual` and `state` are changed in place.

        attention: (B, T, H*K) float32 or bf16, residual: (B, T, D) float32, state: (N, R) of the layer before, or
        None in the first -> state (N, R), choice (N) with E meaning none.
        """
        rows = residual.shape[0] * residual.shape[1]
        new_state = torch.empty(rows, self.router_width) if state is None else state
        choice = torch.empty(rows, dtype=torch.int64)
        attention = attention.contiguous()
        arguments = _Mixture(
            torch.get_num_threads(), attention.dtype == torch.bfloat16, state is not None, rows,
            *map(Tensor.data_ptr, (attention, residual, new_state, choice)),
        )  # fmt: skip
        self.library.zaya_mix(self.index, self._layer_pointer, ctypes.byref(arguments))
        return new_state, choice
