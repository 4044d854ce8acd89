"""Make a model from a checkpoint of either layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quant.assemble import packed_matrix, packed_stack
from quant.dense import DenseMatrix, DenseStack
from quant.large_pages import share_large_pages
from quant.matrix import Matrix, Stack
from zaya_core.cache.cache import BlockPool
from zaya_core.checkpoint.checkpoint import Checkpoint, open_checkpoint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.checkpoint.native_shapes import RESIDUAL_PARTS
from zaya_core.config.kv_format import KVFormat, expect_kv_format
from zaya_core.config.model_config import ModelConfig
from zaya_core.errors import CheckpointError
from zaya_core.kernels.fused import fuse, fuse_all, fuse_embedding, fuse_head
from zaya_core.machine.device import Placement, choose_placement
from zaya_core.machine.format_library import expect_library
from zaya_core.model.attention import Attention
from zaya_core.model.cca import CausalConvolutions, CCAProjection
from zaya_core.model.experts import Experts
from zaya_core.model.model import Block, ZayaModel, cache_layout
from zaya_core.model.norm import QKNorm, RMSNorm
from zaya_core.model.residual import ResidualScaling
from zaya_core.model.rope import RotaryEmbedding
from zaya_core.model.router import Router


def load_model(
    path: str | Path | ModelFolder, device: str = "auto", dtype: str | torch.dtype = "auto", kv: KVFormat = "auto"
) -> ZayaModel:
    """Load a model folder of either layout.

    On a CPU packed matrices, and float ones in the stored dtype, stay in the mapped files where they are large; others
    are copied, small parameters to float32.
    dtype: "auto" (as stored), "bfloat16" or "float32". kv: how keys and values are kept, see `zaya_core.cache.cache`.
    Raises: the errors of `open_checkpoint` and `choose_placement`; UsageError for another `kv`.
    """
    expect_kv_format(kv)
    folder = ModelFolder.of(path)
    config = folder.config
    if config.quantization is not None:
        expect_library(config.quantization.experts)
    checkpoint = open_checkpoint(folder)
    return build_model(config, checkpoint, choose_placement(device, dtype, checkpoint.dtype), kv)


def build_model(config: ModelConfig, checkpoint: Checkpoint, placement: Placement, kv: KVFormat = "auto") -> ZayaModel:
    """Assemble the layers. See `load_model`."""
    checkpoint.expect_equal_head()
    parts = ModelParts(config, checkpoint, placement)
    embed_tokens = parts.matrix("model.embed_tokens")
    head = embed_tokens if config.tie_word_embeddings else parts.matrix("lm_head")
    lm_head = head.with_bias(parts.small("lm_head.bias") if config.lm_head_bias else None)
    norm = parts.rms_norm("model.norm")
    scale, bias = (parts.small(f"model.input_hidden_states_{name}") for name in ("scale", "bias"))
    spelled_out = [parts.block(layer) for layer in range(config.num_hidden_layers)]
    blocks = [replace(block, fused=fuse(block)) for block in spelled_out]
    layer_types = sorted(set(config.layer_types))
    fused_embedding = fuse_embedding(embed_tokens, bias, scale)
    fused_head = fuse_head(lm_head, norm, placement.dtype)
    return ZayaModel(
        config=config,
        dtype=placement.dtype,
        device=placement.device,
        placement_reason=placement.reason,
        notes=checkpoint.notes,
        embed_tokens=embed_tokens,
        input_hidden_states_scale=scale,
        input_hidden_states_bias=bias,
        rotary={
            kind: RotaryEmbedding(config.rope_parameters[kind], config.head_dim, placement.device)
            for kind in layer_types
        },
        blocks=blocks,
        norm=norm,
        lm_head=lm_head,
        empty_delayed=torch.stack([parts.empty_delayed(block) for block in blocks]),
        pool=BlockPool(cache_layout(config, placement.dtype, placement.device, kv)),
        decoder=fuse_all(fused_embedding, blocks, fused_head),
        fused_embedding=fused_embedding,
        fused_head=fused_head,
    )


class ModelParts:
    """Layers by name, on the device and in the dtype of the placement."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint, placement: Placement):
        self.config = config
        self.checkpoint = checkpoint
        self.device = placement.device
        self.dtype = placement.dtype

    def small(self, name: str) -> Tensor:
        """A parameter whose bytes do not matter, in float32. Raises CheckpointError for values that are not finite."""
        stored = self.checkpoint.tensor(name)
        if not torch.isfinite(stored).all():
            raise CheckpointError(
                f"{self.checkpoint.folder}: {name} has values that are not finite: download the files again."
            )
        return share_large_pages(stored.to(self.device, torch.float32))

    def matrix(self, name: str) -> Matrix:
        """The matrix `{name}.weight` with its bias, as floats or packed as it is stored."""
        weight, bias_name = f"{name}.weight", f"{name}.bias"
        has_bias = self.config.attention_bias and bias_name in self.checkpoint.parameters
        bias = self._large(self.checkpoint.tensor(bias_name)) if has_bias else None
        packed = self.checkpoint.packed.get(weight)
        if packed is None:
            return DenseMatrix(self._large(self.checkpoint.tensor(weight)), bias)
        n, k = packed.shape
        return packed_matrix(packed.kind, self._on_device(self.checkpoint.packed_tensors(weight)), (n, k), bias)

    def stack(self, name: str) -> Stack[Any]:
        """The matrices of all experts of a layer."""
        packed = self.checkpoint.packed.get(name)
        if packed is None:
            return DenseStack([self._large(expert) for expert in self.checkpoint.experts(name)])
        experts, n, k = packed.shape
        tensors = self._on_device(self.checkpoint.packed_tensors(name))
        one_each = [{suffix: tensor[e] for suffix, tensor in tensors.items()} for e in range(experts)]
        return packed_stack(packed.kind, one_each, (n, k))

    def _on_device(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {suffix: share_large_pages(tensor.to(self.device)) for suffix, tensor in tensors.items()}

    def _large(self, tensor: Tensor) -> Tensor:
        return share_large_pages(tensor.to(self.device, self.dtype))

    def rms_norm(self, name: str) -> RMSNorm:
        """A norm by name."""
        return RMSNorm(self.small(f"{name}.weight"), self.config.rms_norm_eps)

    def residual_scaling(self, name: str) -> ResidualScaling:
        """A merge of a branch into the residual stream by name."""
        return ResidualScaling(*(self.small(f"{name}.{part}") for part in RESIDUAL_PARTS))

    def empty_delayed(self, block: Block) -> Tensor:
        """V's delayed half for no token: `v_proj_delayed(0)`, which is not zero where the projection has a bias."""
        delayed = block.attention.qkv_proj.v_proj_delayed
        width = torch.zeros(self.config.delayed_width, device=self.device, dtype=self.dtype)
        return width if delayed.bias is None else width + delayed.bias

    def block(self, layer: int) -> Block:
        """One decoder layer."""
        prefix = f"model.layers.{layer}."
        return Block(
            layer=layer,
            layer_type=self.config.layer_types[layer],
            input_layernorm=self.rms_norm(prefix + "input_layernorm"),
            attention=self._attention(prefix + "self_attn."),
            post_attention_residual_scale=self.residual_scaling(prefix + "post_attention_residual_scale"),
            post_attention_layernorm=self.rms_norm(prefix + "post_attention_layernorm"),
            router=self._router(prefix + "mlp.gate."),
            experts=self._experts(prefix + "mlp.experts."),
            post_mlp_residual_scale=self.residual_scaling(prefix + "post_mlp_residual_scale"),
        )

    def _attention(self, prefix: str) -> Attention:
        config = self.config
        qkv = prefix + "qkv_proj."
        projections = {
            name: self.matrix(qkv + name) for name in ("q_proj", "k_proj", "v_proj_current", "v_proj_delayed")
        }
        convolutions = CausalConvolutions(
            (self.small(qkv + "conv_qk_depthwise.weight"), self.small(qkv + "conv_qk_depthwise.bias")),
            (self.small(qkv + "conv_qk_grouped.weight"), self.small(qkv + "conv_qk_grouped.bias")),
            config.head_dim,
        )
        cca = CCAProjection(projections, convolutions, config.num_attention_heads, config.num_key_value_heads)
        norm = QKNorm(self.small(prefix + "qk_norm.temp"), config.num_attention_heads, config.head_dim)
        return Attention(cca, norm, self.matrix(prefix + "o_proj"))

    def _router(self, prefix: str) -> Router:
        names = [name for name in self.checkpoint.parameters if name.startswith(prefix)]
        return Router({name.removeprefix(prefix): self.small(name) for name in names}, self.config.rms_norm_eps)

    def _experts(self, prefix: str) -> Experts:
        return Experts(
            self.stack(prefix + "gate_up_proj"),
            self.stack(prefix + "down_proj"),
            skip_keeps_input=self.config.layout == "original",
        )
