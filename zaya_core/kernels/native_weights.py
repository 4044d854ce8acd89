"""A model's parts as the native library reads them, or why it cannot."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quant.dense import DenseMatrix
from quant.int4 import Int4Matrix
from quant.int8 import Int8Matrix
from quant.kernels.native import NativeProducts
from quant.kernels.parameters import NativeMatrix
from quant.matrix import Matrix
from quant.packed import PackedMatrix
from zaya_core.kernels.layer import LANES, LayerParameters, NativeLayer
from zaya_core.kernels.vocabulary import NativeEmbedding, NativeHead
from zaya_core.model.layer import DecoderLayer
from zaya_core.model.residual import ResidualScaling
from zaya_core.model.steps import Declined
from zaya_core.model.weights import Embedding, Head


def native_embedding(native: NativeProducts, embedding: Embedding) -> NativeEmbedding:
    """(row + bias) * scale in one call. Raises Declined."""
    matrix = _native_matrix(embedding.embed_tokens, "the embedding")
    return NativeEmbedding(native, matrix, embedding.embed_tokens.shape[0], embedding.bias, embedding.scale)


def native_head(native: NativeProducts, head: Head, dtype: torch.dtype) -> NativeHead:
    """The last norm and the product with the vocabulary in one call. dtype: of activations. Raises Declined."""
    matrix, norm, lm_head = _multiplied(native, head.lm_head, "the head"), head.norm, head.lm_head
    return NativeHead(native, matrix, lm_head.shape[0], lm_head.bias, norm.weight, norm.eps, dtype)


def native_layer(native: NativeProducts, layer: DecoderLayer) -> NativeLayer:
    """A layer's weights for its steps. Raises Declined."""
    experts = layer.experts
    dense = [_multiplied(native, one, "attention") for one in (*layer.qkv_proj.matrices, layer.o_proj)]
    gate_up, down = (
        [_multiplied(native, one, "an expert") for one in stack.matrices]
        for stack in (experts.gate_up_proj, experts.down_proj)
    )
    for matrices, what in ((dense, "attention"), (gate_up + down, "experts")):
        if len(formats := {matrix.format for matrix in matrices}) > 1:
            raise Declined(f"{what} must be in one format; they are in {', '.join(sorted(formats))}")
    parameters = _parameters(layer, dense, gate_up, down)
    widths = (len(parameters.input_norm), parameters.head_dim, parameters.expert_width, len(parameters.router_norm))
    if any(width % LANES for width in widths):
        raise Declined(f"widths must be multiples of {LANES}; they are {', '.join(map(str, widths))}")
    return NativeLayer(native, parameters)


def _parameters(
    layer: DecoderLayer, dense: list[NativeMatrix], gate_up: list[NativeMatrix], down: list[NativeMatrix]
) -> LayerParameters:
    cca, router, experts = layer.qkv_proj, layer.router, layer.experts
    convolutions, o_bias = cca.convolutions, layer.o_proj.bias
    return LayerParameters(
        query_heads=cca.num_attention_heads,
        head_dim=convolutions.head_dim,
        rms_norm_eps=layer.input_layernorm.eps,
        length_eps=layer.qk_norm.eps,
        input_norm=layer.input_layernorm.weight,
        qkv=dense[:4],
        qkv_bias=_joined_bias(cca.matrices),
        o=dense[4],
        o_bias=None if o_bias is None else o_bias.float(),
        depthwise_taps=convolutions.depthwise_taps,
        depthwise_bias=convolutions.depthwise_bias,
        grouped_weight=convolutions.grouped_weight.transpose(1, 2).flatten(0, 1),
        grouped_bias=convolutions.grouped_bias.flatten(),
        head_scale=layer.qk_norm.scale.flatten(),
        attention_merge=_merge(layer.post_attention_residual_scale),
        mlp_merge=_merge(layer.post_mlp_residual_scale),
        post_attention_norm=layer.post_attention_layernorm.weight,
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


def _multiplied(native: NativeProducts, matrix: Matrix, what: str) -> NativeMatrix:
    """A matrix that is multiplied. Raises Declined."""
    read = _native_matrix(matrix, what)
    if read.format == "bf16" and not native.has_bf16:
        raise Declined(f"{what} is in bf16, for which {native.name} has no products")
    return read


def _native_matrix(matrix: Matrix, what: str) -> NativeMatrix:
    """A matrix whose rows are read. Raises Declined."""
    if isinstance(matrix, (Int4Matrix, Int8Matrix)):
        return NativeMatrix("int4" if isinstance(matrix, Int4Matrix) else "int8", matrix.codes, matrix.scales)
    if isinstance(matrix, DenseMatrix) and matrix.is_native:
        return NativeMatrix("bf16", matrix.weight, None)
    raise Declined(f"{what} is stored as {_stored_as(matrix)}, which it does not read")


def _stored_as(matrix: Matrix) -> str:
    if isinstance(matrix, PackedMatrix):
        return matrix.kind
    return str(matrix.weight.dtype).removeprefix("torch.") if isinstance(matrix, DenseMatrix) else type(matrix).__name__
