"""The steps by the native library: a prompt takes two or three calls a layer, one new token a row one call in all.

Activations stay in float32 between the products (the reference rounds them to the model's dtype), and products round
their input to int8 or bf16 as the native products do, a prompt's attention its queries and weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from quant.kernels.native import NativeProducts
from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.blocks import BlockPool
from zaya_core.cache.states import RowStates, TensorStates
from zaya_core.kernels.decode import AttentionKind, NativeDecoder, Places, StoragePointers
from zaya_core.kernels.key_values import KeyValues
from zaya_core.kernels.layer import NativeLayer
from zaya_core.kernels.native_weights import native_embedding, native_head, native_layer
from zaya_core.kernels.prompt_attention import attend_prompt, can_attend
from zaya_core.kernels.sampling import NativeSampling
from zaya_core.model.attention import attend_to_cache
from zaya_core.model.forward_pass import ForwardPass
from zaya_core.model.steps import Declined, Qkv
from zaya_core.model.weights import ModelWeights
from zaya_core.sampling.draw import Drawn, RowDraw, draw_rows


class NativeSteps:
    """See `zaya_core.model.steps.Steps`."""

    def __init__(self, weights: ModelWeights, native: NativeProducts, reason: str):
        """Raises Declined, with the reason, for weights that the library cannot read."""
        self.name, self.reason = f"native {native.name}", reason
        self._layout, self._sampling = weights.layout, NativeSampling(native)
        if weights.layout.device.type != "cpu":
            raise Declined(f"it computes on CPUs; the weights are on {weights.layout.device}")
        head = weights.head()
        self._embedding = native_embedding(native, weights.embedding())
        self._head = native_head(native, head, self._layout.dtype)
        self._fixed_nbytes, self._expert_nbytes = head.lm_head.nbytes, 0.0
        self._read_layers(weights, native)
        layer_types = weights.config.layer_types
        self._kinds = sorted(set(layer_types))
        kinds = [self._kinds.index(kind) for kind in layer_types]
        self._decoder = NativeDecoder(self._embedding, self._layers, kinds, self._head)
        # At which generation of each pool; a pool that nobody has goes.
        self._storage: WeakKeyDictionary[BlockPool, tuple[int, StoragePointers]] = WeakKeyDictionary()

    def _read_layers(self, weights: ModelWeights, native: NativeProducts) -> None:
        """One after the other: what the library has a copy of, such as convolutions and routers, does not stay."""
        self._layers: list[NativeLayer] = []
        delayed: list[Tensor] = []
        for number in range(weights.config.num_hidden_layers):
            layer = weights.layer(number)
            read = native_layer(native, layer)
            self._layers.append(read)
            delayed.append(weights.empty_delayed(layer))
            self._fixed_nbytes += sum(one.nbytes for one in (*layer.qkv_proj.matrices, layer.o_proj))
            self._fixed_nbytes += read.panel_nbytes
            self._expert_nbytes += layer.experts.nbytes_of_one
        self._empty_delayed = torch.stack(delayed)

    def embed(self, ids: Tensor) -> Tensor:
        """See `Steps`."""
        return self._embedding(ids)

    def project(self, layer: int, residual: Tensor, pass_: ForwardPass) -> Qkv:
        """See `Steps`. Float32."""
        native, step = self._layers[layer], pass_.step
        state = step.conv_tail(layer), step.delayed(layer)
        *qkv, tail, delayed = native.project(residual, *state, step.lengths, *pass_.inputs(layer).angles)
        step.replace_state(tail, delayed)
        return Qkv(*(x.unflatten(-1, (-1, native.head_dim)) for x in qkv))

    def attend(self, layer: int, qkv: Qkv, pass_: ForwardPass) -> Tensor:
        """See `Steps`. Float32, or the model's dtype where torch computes it."""
        native, step, inputs = self._layers[layer], pass_.step, pass_.inputs(layer)
        if not can_attend(native, self._layout.dtype):
            step.store(layer, qkv.key, qkv.value)
            return attend_to_cache(qkv.query.to(self._layout.dtype), pass_, layer).flatten(2)
        storage = [tensors[layer] for tensors in step.cache.pool.tensors.values()]
        cache, past = KeyValues(storage, step.tables, BLOCK), step.ends - step.lengths
        return attend_prompt(native, [x.flatten(2) for x in qkv], cache, past, step.lengths, inputs.window)

    def mix(
        self, layer: int, attended: Tensor, residual: Tensor, router_state: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `Steps`. In place."""
        router_state, choice = self._layers[layer].mix(attended, residual, router_state)
        return residual, router_state, choice

    def logits(self, residual: Tensor) -> Tensor:
        """See `Steps`."""
        return self._head(residual)

    def decode(self, ids: Tensor, pass_: ForwardPass) -> tuple[Tensor, Tensor] | None:
        """See `Steps`. Raises IndexError for an id that is no row."""
        step, cache = pass_.step, pass_.step.cache
        if step.columns != 1 or step.is_padded:
            return None
        kinds = [AttentionKind(*x.table, x.first_visible) for x in map(pass_.by_type.__getitem__, self._kinds)]
        places = Places(step.slot_numbers, step.block_numbers, step.totals)
        logits, tails, delayed, choices = self._decoder(ids, step.state, kinds, self._storage_of(cache.pool), places)
        step.replace_states(tails, delayed)
        return logits, choices

    def _storage_of(self, pool: BlockPool) -> StoragePointers:
        kept = self._storage.get(pool)
        if kept is None or kept[0] != pool.generation:
            kept = self._storage[pool] = pool.generation, self._decoder.storage(list(pool.tensors.values()), BLOCK)
        return kept[1]

    def draw(self, logits: Tensor, rows: Sequence[RowDraw]) -> list[Drawn | Exception]:
        """See `Steps`."""
        return draw_rows(self._sampling, logits, rows)

    def states(self, max_rows: int | None = None, max_blocks: int | None = None) -> RowStates:
        """See `Steps`."""
        return TensorStates(self._layout, self._empty_delayed, max_blocks)

    def step_bytes(self, distinct_experts: float) -> float:
        """See `Steps`."""
        return self._fixed_nbytes + distinct_experts * self._expert_nbytes

    def host_step_bytes(self, distinct_experts: float) -> float:
        """None: the host is the device."""
        return 0.0
