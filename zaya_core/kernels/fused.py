"""Layers, embedding and head by the native library's fused steps: what `Block` and `ZayaModel` spell out, in few calls.

A prompt takes two calls a layer, around its attention, which is a third call for models in bf16 where the processor has
products for it; one new token a row takes one in all.

Activations stay in float32 between the products (`Block` rounds them to the model's dtype), and products round their
input to int8 or bf16 as the native products do, a prompt's attention its queries and weights. Which layers can: those
on a CPU whose matrices the library can read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from quant.dense import DenseMatrix
from quant.int4 import Int4Matrix
from quant.int8 import Int8Matrix
from quant.kernels.native import NativeProducts
from quant.kernels.parameters import NativeMatrix
from quant.kernels.resolve import cpu_products
from quant.matrix import Matrix
from zaya_core.cache.cache import BlockPool, CacheStep
from zaya_core.cache.layout import BLOCK
from zaya_core.kernels.decode import AttentionKind, NativeDecoder, Places, StoragePointers
from zaya_core.kernels.key_values import KeyValues
from zaya_core.kernels.layer import LANES, LayerParameters, NativeLayer
from zaya_core.kernels.prompt_attention import attend_prompt, can_attend
from zaya_core.kernels.vocabulary import NativeEmbedding, NativeHead
from zaya_core.model.attention import Attention, AttentionInputs, grouped_query_attention
from zaya_core.model.norm import RMSNorm
from zaya_core.model.residual import ResidualScaling

if TYPE_CHECKING:
    from zaya_core.model.model import Block


class FusedSteps:
    """One layer. State: as `Attention`; moreover changes the residual stream and the router's state in place."""

    def __init__(self, native: NativeLayer):
        self.native = native

    def __call__(
        self, residual: Tensor, router_state: Tensor | None, inputs: AttentionInputs, step: CacheStep, layer: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """residual: (B, T, D) float32, router_state: (N, R) or None -> residual, router_state, choice (N)."""
        tail, delayed = step.conv_tail(layer), step.delayed(layer)
        *qkv, tail, delayed = self.native.project(residual, tail, delayed, step.lengths, *inputs.angles)
        step.replace_state(tail, delayed)
        router_state, choice = self.native.mix(self._attend(qkv, inputs, step, layer), residual, router_state)
        return residual, router_state, choice

    def _attend(self, qkv: Sequence[Tensor], inputs: AttentionInputs, step: CacheStep, layer: int) -> Tensor:
        """query (B, T, H*K), key and value (B, T, G*K), float32 -> (B, T, H*K) in float32 or the model's dtype."""
        dtype = step.cache.pool.layout.dtype
        if not can_attend(self.native, dtype):
            query, key, value = (x.unflatten(-1, (-1, self.native.head_dim)) for x in qkv)
            return grouped_query_attention(query.to(dtype), *step.append(layer, key, value), inputs).flatten(2)
        storage = [tensors[layer] for tensors in step.cache.pool.tensors.values()]
        past = step.ends - step.lengths
        cache = KeyValues(storage, step.tables, BLOCK)
        return attend_prompt(self.native, qkv, cache, past, step.lengths, inputs.window)


class FusedDecoder:
    """One new token a row from its id to its logits. State: as `Attention`."""

    def __init__(
        self, embedding: NativeEmbedding, layers: Sequence[NativeLayer], layer_types: Sequence[str], head: NativeHead
    ):
        self._kinds = sorted(set(layer_types))
        self._native = NativeDecoder(embedding, layers, [self._kinds.index(kind) for kind in layer_types], head)
        self._storage: tuple[BlockPool, int, StoragePointers] | None = None  # of which pool, at which generation

    @staticmethod
    def can_take(step: CacheStep) -> bool:
        """Whether each row has one token that is real."""
        return step.columns == 1 and not step.is_padded

    def __call__(self, ids: Tensor, inputs: Mapping[str, AttentionInputs], step: CacheStep) -> tuple[Tensor, Tensor]:
        """ids: (B, 1) int64 -> logits (B, 1, V) float32, choices (L, B). Raises IndexError for an id that is no row."""
        cache = step.cache
        kinds = [AttentionKind(*x.table, x.first_visible) for x in map(inputs.__getitem__, self._kinds)]
        places = Places(step.slot_numbers, step.block_numbers, step.totals)
        states, storage = (cache.conv_tail, cache.delayed), self._storage_of(cache.pool)
        logits, tails, delayed, choices = self._native(ids, states, kinds, storage, places)
        step.replace_states(tails, delayed)
        return logits, choices

    def _storage_of(self, pool: BlockPool) -> StoragePointers:
        kept = self._storage
        if kept is None or kept[0] is not pool or kept[1] != pool.generation:
            kept = self._storage = (pool, pool.generation, self._native.storage(list(pool.tensors.values()), BLOCK))
        return kept[2]


def fuse_all(
    embedding: NativeEmbedding | None, blocks: Sequence[Block], head: NativeHead | None
) -> FusedDecoder | None:
    """The fused decoder of these parts, or None where not all of them are fused."""
    layers = [block.fused.native for block in blocks if block.fused is not None]
    if embedding is None or head is None or len(layers) < len(blocks):
        return None
    return FusedDecoder(embedding, layers, [block.layer_type for block in blocks], head)


def fuse(block: Block) -> FusedSteps | None:
    """The fused steps of a layer, or None where the library cannot take them."""
    native = cpu_products().native
    attention, experts = block.attention, block.experts
    dense = _native_matrices([*_projections(attention), attention.o_proj])
    stacks = [_native_matrices(stack.matrices) for stack in (experts.gate_up_proj, experts.down_proj)]
    gate_up, down = stacks
    if native is None or dense is None or gate_up is None or down is None or gate_up[0].format != down[0].format:
        return None
    if not (_can_multiply(native, dense[0]) and _can_multiply(native, down[0])):
        return None
    parameters = _parameters(block, dense, gate_up, down)
    widths = (len(parameters.input_norm), parameters.head_dim, parameters.expert_width, len(parameters.router_norm))
    if any(width % LANES for width in widths):
        return None
    return FusedSteps(NativeLayer(native, parameters))


def fuse_embedding(matrix: Matrix, bias: Tensor, scale: Tensor) -> NativeEmbedding | None:
    """(row + bias) * scale in one call, or None where the library cannot take it."""
    native, weights = cpu_products().native, _native_matrix(matrix)
    if native is None or weights is None:
        return None
    return NativeEmbedding(native, weights, matrix.shape[0], bias, scale)


def fuse_head(matrix: Matrix, norm: RMSNorm, dtype: torch.dtype) -> NativeHead | None:
    """The last norm and the product with the vocabulary in one call, or None where the library cannot take them."""
    native, weights = cpu_products().native, _native_matrix(matrix)
    if native is None or weights is None or not _can_multiply(native, weights):
        return None
    return NativeHead(native, weights, matrix.shape[0], matrix.bias, norm.weight, norm.eps, dtype)


def _can_multiply(native: NativeProducts, matrix: NativeMatrix) -> bool:
    return native.has_bf16 or matrix.format != "bf16"


def _projections(attention: Attention) -> list[Matrix]:
    cca = attention.qkv_proj
    return [cca.q_proj, cca.k_proj, cca.v_proj_current, cca.v_proj_delayed]


def _parameters(
    block: Block, dense: list[NativeMatrix], gate_up: list[NativeMatrix], down: list[NativeMatrix]
) -> LayerParameters:
    attention, router, experts = block.attention, block.router, block.experts
    convolutions, o_bias = attention.qkv_proj.convolutions, attention.o_proj.bias
    return LayerParameters(
        query_heads=attention.num_attention_heads,
        head_dim=convolutions.head_dim,
        rms_norm_eps=block.input_layernorm.eps,
        length_eps=attention.qk_norm.eps,
        input_norm=block.input_layernorm.weight,
        qkv=dense[:4],
        qkv_bias=_joined_bias(_projections(attention)),
        o=dense[4],
        o_bias=None if o_bias is None else o_bias.float(),
        depthwise_taps=convolutions.depthwise_taps,
        depthwise_bias=convolutions.depthwise_bias,
        grouped_weight=convolutions.grouped_weight.transpose(1, 2).flatten(0, 1),
        grouped_bias=convolutions.grouped_bias.flatten(),
        head_scale=attention.qk_norm.scale.flatten(),
        attention_merge=_merge(block.post_attention_residual_scale),
        mlp_merge=_merge(block.post_mlp_residual_scale),
        post_attention_norm=block.post_attention_layernorm.weight,
        router=[router.down_proj, router.fc1, router.fc2, (router.out_proj, None)],
        router_states_scale=router.router_states_scale,
        router_norm=router.norm.weight,
        balancing_biases=router.balancing_biases,
        gate_up=gate_up,
        down=down,
        expert_width=experts.down_proj.matrices[0].shape[1],
        skip_keeps_input=experts.skip_keeps_input,
    )


def _merge(scaling: ResidualScaling) -> tuple[Tensor, Tensor, Tensor]:
    return scaling.branch_scale, scaling.residual_scale, scaling.constant


def _joined_bias(matrices: Sequence[Matrix]) -> Tensor | None:
    if all(matrix.bias is None for matrix in matrices):
        return None
    return torch.cat([torch.zeros(m.shape[0]) if m.bias is None else m.bias.float() for m in matrices])


def _native_matrices(matrices: Sequence[Matrix]) -> list[NativeMatrix] | None:
    """The matrices as the library reads them; None unless it can read all, in one format."""
    found = [_native_matrix(matrix) for matrix in matrices]
    kept = [matrix for matrix in found if matrix is not None]
    return kept if len(kept) == len(found) and len({matrix.format for matrix in kept}) == 1 else None


def _native_matrix(matrix: Matrix) -> NativeMatrix | None:
    if isinstance(matrix, (Int4Matrix, Int8Matrix)) and matrix.codes.device.type == "cpu":
        return NativeMatrix("int4" if isinstance(matrix, Int4Matrix) else "int8", matrix.codes, matrix.scales)
    if isinstance(matrix, DenseMatrix) and matrix.is_native:
        return NativeMatrix("bf16", matrix.weight, None)
    return None
