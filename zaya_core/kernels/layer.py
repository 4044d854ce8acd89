"""CCA, router and experts of a decoder layer, by the native library (`abi.h`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.kernels.abi import Matrix, Panels
from quant.kernels.native import FORMATS, NativeProducts
from quant.kernels.parameters import NativeMatrix, Parameters
from quant.kernels.pointers import address, expect_within, fresh, pair_of, rows_of, strided
from quant.large_pages import share_large_pages
from zaya_core.kernels import abi

LANES = 16  # all widths are multiples of it


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


def has_prompt_attention(products: NativeProducts) -> bool:
    """Whether the instruction set has a prompt's attention."""
    return bool(abi.steps_of(products).zaya_has_prompt_attention(products.index))


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
        self.library = abi.steps_of(products)
        self.has_prompt_attention = has_prompt_attention(products)
        self.panel_nbytes = 0
        p = parameters
        self.head_dim, self.hidden = p.head_dim, len(p.input_norm)
        self.key_heads = len(p.head_scale) - p.query_heads
        self.query_width, self.key_width = p.query_heads * p.head_dim, self.key_heads * p.head_dim
        self.channels = self.query_width + self.key_width
        self.router_width, self.experts = len(p.router_norm), len(p.down)
        taps, grouped_taps = len(p.depthwise_taps), p.grouped_weight.shape[1] // p.head_dim
        self.tail = taps + grouped_taps - 2
        self._expect_widths(p)
        self._layer = abi.Layer(
            hidden=self.hidden,
            query_heads=p.query_heads,
            key_heads=self.key_heads,
            head_dim=p.head_dim,
            dense_format=FORMATS.index(p.o.format),
            expert_format=FORMATS.index(p.down[0].format),
            rms_norm_eps=p.rms_norm_eps,
            length_eps=p.length_eps,
            input_norm=self._vector(p, "input_norm", self.hidden),
            **dict(zip(("q", "k", "v_current", "v_delayed"), self._projections(p), strict=True)),
            o=self.matrix(p.o, self.hidden, self.query_width),
            qkv_bias=self._vector(p, "qkv_bias", self.channels + self.key_width),
            o_bias=self._vector(p, "o_bias", self.hidden),
            depthwise_taps=taps,
            grouped_taps=grouped_taps,
            depthwise_weight=self.pointer(p.depthwise_taps, "depthwise_taps", taps, self.channels),
            depthwise_bias=self._vector(p, "depthwise_bias", self.channels),
            grouped=self._panels(p.grouped_weight, p.grouped_bias, self.channels, grouped_taps * p.head_dim),
            head_scale=self._vector(p, "head_scale", p.query_heads + self.key_heads),
            attention_merge=self._merge(p.attention_merge),
            mlp_merge=self._merge(p.mlp_merge),
            post_attention_norm=self._vector(p, "post_attention_norm", self.hidden),
            **self._router(p),
            router_states_scale=self._vector(p, "router_states_scale", self.router_width),
            router_norm=self._vector(p, "router_norm", self.router_width),
            balancing_biases=self._vector(p, "balancing_biases", self.experts + 1),
            experts=self.experts,
            expert_width=p.expert_width,
            gate_up=self._matrices(p.gate_up, 2 * p.expert_width, self.hidden),
            down=self._matrices(p.down, self.hidden, p.expert_width),
            skip_keeps_input=p.skip_keeps_input,
        )
        self._layer_pointer = ctypes.byref(self._layer)
        self.address = ctypes.addressof(self._layer)

    def _expect_widths(self, p: LayerParameters) -> None:
        """Raises ValueError for sizes that the steps are not written for."""
        widths = (self.hidden, p.head_dim, p.expert_width, self.router_width)
        if any(width <= 0 or width % LANES for width in widths):
            raise ValueError(f"the widths {widths} of a layer must be multiples of {LANES}")
        if self.key_heads < 1 or p.query_heads < 1 or p.query_heads % self.key_heads or self.tail < 0:
            raise ValueError(
                f"{p.query_heads} query heads cannot share {self.key_heads} key heads, or taps are missing"
            )
        if len(p.gate_up) != self.experts:
            raise ValueError(f"{len(p.gate_up)} matrices gate_up are not one for each of {self.experts} experts")

    def _vector(self, p: LayerParameters, name: str, width: int) -> int | None:
        return self.pointer(getattr(p, name), name, width)

    def _merge(self, vectors: Sequence[Tensor]) -> abi.Merge:
        return abi.Merge(*(self.pointer(vector, "merge", self.hidden) for vector in vectors))

    def _projections(self, p: LayerParameters) -> list[Matrix]:
        widths = (self.query_width, self.key_width, self.key_width // 2, self.key_width // 2)
        return [self.matrix(one, width, self.hidden) for one, width in zip(p.qkv, widths, strict=True)]

    def _router(self, p: LayerParameters) -> dict[str, Panels]:
        r = self.router_width
        shapes = {"down": (r, self.hidden), "fc1": (r, r), "fc2": (r, r), "out": (self.experts + 1, r)}
        layers = zip(shapes.items(), p.router, strict=True)
        return {f"router_{name}": self._panels(*layer, *shape) for (name, shape), layer in layers}

    def _matrices(self, matrices: Sequence[NativeMatrix], n: int, k: int) -> int:
        array = (Matrix * len(matrices))(*(self.matrix(matrix, n, k) for matrix in matrices))
        self.keep(array)
        return ctypes.addressof(array)

    def _panels(self, weight: Tensor, bias: Tensor | None, n: int, k: int) -> Panels:
        if tuple(weight.shape) != (n, k) or (bias is not None and tuple(bias.shape) != (n,)):
            raise ValueError(f"a layer with a weight of ({n}, {k}) has one of {tuple(weight.shape)}, or another bias")
        panels = share_large_pages(to_panels(weight))
        self.keep(panels)
        padded = None if bias is None else F.pad(bias.float(), (0, -n % LANES))
        is_bf16 = panels.dtype == torch.bfloat16
        self.panel_nbytes += panels.nbytes
        begin = address(panels, "panels", panels.shape, torch.float32, torch.bfloat16)
        return Panels(begin, self.pointer(padded, "bias", -(-n // LANES) * LANES), is_bf16, n, k)

    def state_shapes(self, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the tail and of the delayed values."""
        return (batch, self.tail, self.channels), (batch, self.key_width // 2)

    def project(
        self, residual: Tensor, tail: Tensor, delayed: Tensor, lengths: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Residual stream to queries, keys, values and the layer's next state.

        residual: (B, T, D) float32; tail (B, W, C) and delayed (B, G*K/2) in the cache's dtype; lengths: (B) int64, the
        real columns; cos, sin: (B, T, 1, rotated) -> query (B, T, H*K), key, value (B, T, G*K) float32, tail, delayed.
        """
        batch, columns = pair_of(residual, "residual")
        states, shapes = (rows_of(tail, "tail"), rows_of(delayed, "delayed")), self.state_shapes(batch)
        (new_tail, to_tail), (new_delayed, to_delayed) = (fresh(*shape, dtype=states[0].dtype) for shape in shapes)
        query, to_query = fresh(batch, columns, self.query_width)
        (key, to_key), (value, to_value) = (fresh(batch, columns, self.key_width) for _ in range(2))
        of_lengths = address(lengths, "lengths", (batch,), torch.int64)
        expect_within("lengths", lengths.tolist(), 0, columns)
        arguments = abi.Cca(
            torch.get_num_threads(), states[0].dtype == torch.bfloat16, batch, columns, of_lengths,
            address(residual, "residual", (batch, columns, self.hidden), torch.float32),
            *state_addresses(states, shapes), to_tail, to_delayed,
            *self.angle_addresses(cos, sin, (batch, columns, 1)), to_query, to_key, to_value,
        )  # fmt: skip
        self.library.zaya_cca(self.index, self._layer_pointer, ctypes.byref(arguments))
        return query, key, value, new_tail, new_delayed

    def angle_addresses(self, cos: Tensor, sin: Tensor, before: tuple[int, ...]) -> tuple[int, ...]:
        """How many numbers of a head are rotated, and where cos and sin are. cos, sin: (*before, rotated) float32."""
        rotated = (0, *strided(cos, "cos").shape)[-1]
        if rotated % 2 or rotated > self.head_dim:
            raise ValueError(f"angles of {rotated} numbers do not fit heads of {self.head_dim}")
        shape = (*before, rotated)
        return rotated, *(address(one, "angles", shape, torch.float32) for one in (cos, sin))

    def mix(self, attention: Tensor, residual: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Output projection, merges, router and experts; `residual` and `state` are changed in place.

        attention: (B, T, H*K) float32 or bf16, residual: (B, T, D) float32, state: (N, R) of the layer before, or
        None in the first -> state (N, R), choice (N) with E meaning none.
        """
        batch, columns = pair_of(residual, "residual")
        rows = batch * columns
        choice, to_choice = fresh(rows, dtype=torch.int64)
        if state is None:
            new_state, of_state = fresh(rows, self.router_width)
        else:
            new_state, of_state = (
                state,
                address(state, "state", (rows, self.router_width), torch.float32),
            )
        attention = rows_of(attention, "attention")
        arguments = abi.Moe(
            torch.get_num_threads(), attention.dtype == torch.bfloat16, state is not None, rows,
            address(attention, "attention", (batch, columns, self.query_width), torch.float32, torch.bfloat16),
            address(residual, "residual", (batch, columns, self.hidden), torch.float32), of_state, to_choice,
        )  # fmt: skip
        self.library.zaya_moe(self.index, self._layer_pointer, ctypes.byref(arguments))
        return new_state, choice


def state_addresses(states: Sequence[Tensor], shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """Of tails and delayed values, both in float32 or both in bf16."""
    dtype = torch.bfloat16 if states[0].dtype == torch.bfloat16 else torch.float32
    return [address(state, "a state", shape, dtype) for state, shape in zip(states, shapes, strict=True)]
