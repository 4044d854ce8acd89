"""Make a model from a checkpoint of either layout."""

from __future__ import annotations

from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quant.assemble import joined, packed_matrix, packed_stack
from quant.dense import DenseMatrix, DenseStack
from quant.large_pages import share_large_pages
from quant.matrix import Matrix, Stack
from zaya_core.cache.layout import CacheLayout
from zaya_core.checkpoint.checkpoint import Checkpoint, open_checkpoint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.checkpoint.native_shapes import RESIDUAL_PARTS
from zaya_core.config.graphs import Graphs, expect_graphs
from zaya_core.config.kv_format import KVFormat, expect_kv_format
from zaya_core.config.model_config import ModelConfig
from zaya_core.errors import CheckpointError
from zaya_core.kernels.resolve import in_float32, resolve_steps
from zaya_core.machine.device import DeviceChoice, Placement, choose_placement
from zaya_core.machine.format_library import expect_library
from zaya_core.model.cca import CausalConvolutions, CCAProjection
from zaya_core.model.experts import Experts
from zaya_core.model.host_experts import HostExperts
from zaya_core.model.layer import DecoderLayer
from zaya_core.model.model import ZayaModel
from zaya_core.model.norm import QKNorm, RMSNorm
from zaya_core.model.residual import ResidualScaling
from zaya_core.model.rope import RotaryEmbedding
from zaya_core.model.router import Router
from zaya_core.model.steps import Steps
from zaya_core.model.weights import Embedding, Head
from zaya_core.whole_numbers import expect_whole


def load_model(
    path: str | Path | ModelFolder,
    device: str | DeviceChoice = "auto",
    dtype: str | torch.dtype = "auto",
    kv: KVFormat = "auto",
    cpu_experts: int = 0,
    graphs: Graphs = "auto",
) -> ZayaModel:
    """Load a model folder of either layout.

    On a CPU packed matrices, and float ones in the stored dtype, stay in the mapped files where they are large; others
    are copied, small parameters to float32. To a card each goes from the mapped files, one after the other.
    dtype: "auto" (as stored), "bfloat16" or "float32". kv: how keys and values are kept, see `kv_format`. cpu_experts:
    of so many layers the experts stay in host memory, if the rest is on a card. graphs: whether a card replays a decode
    step as a recorded graph; "auto" where that was checked on it. Where nothing is known of the kernels on a card, they
    are checked first: see `card_choice`.
    Raises: the errors of `open_checkpoint` and `choose_placement`; UsageError for another `kv` or `graphs`; ValueError
    for more `cpu_experts` than there are layers.
    """
    expect_kv_format(kv)
    expect_graphs(graphs)
    folder = ModelFolder.of(path)
    config = folder.config
    if config.quantization is not None:
        expect_library(config.quantization.experts)
    checkpoint = open_checkpoint(folder)
    return build_model(config, checkpoint, choose_placement(device, dtype, checkpoint.dtype), kv, cpu_experts, graphs)


def build_model(
    config: ModelConfig,
    checkpoint: Checkpoint,
    placement: Placement,
    kv: KVFormat = "auto",
    cpu_experts: int = 0,
    graphs: Graphs = "auto",
) -> ZayaModel:
    """Choose who computes, and hand the weights over. See `load_model`."""
    checkpoint.expect_equal_head()
    # Sums of parts of a product would else be rounded to bf16 on cards.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    parts = ModelParts(config, checkpoint, placement, kv, cpu_experts, graphs)
    reason = f"{placement.reason}; computed in float32 by the reference" if in_float32() else placement.reason
    if parts.cpu_experts:
        reason += f"; the experts of {parts.cpu_experts} of {config.num_hidden_layers} layers on the CPU"
    return assemble(parts, resolve_steps(parts), reason)


def assemble(parts: ModelParts, steps: Steps, placement_reason: str) -> ZayaModel:
    """The model of these parts, computed by these steps."""
    config = parts.config
    return ZayaModel(
        config=config,
        layout=parts.layout,
        rotary={
            kind: RotaryEmbedding(config.rope_parameters[kind], config.head_dim, parts.layout.device)
            for kind in sorted(set(config.layer_types))
        },
        steps=steps,
        states=steps.states(),
        placement_reason=placement_reason,
        notes=parts.checkpoint.notes,
    )


class ModelParts:
    """The parts of a model by name, on the device and in the dtype of the placement (see `ModelWeights`).

    Weights that the float32 reference multiplies stay in the dtype they are stored in. cpu_experts: of so many layers
    the experts are to stay in host memory; 0 where all is there. graphs: see `ModelWeights`.
    """

    def __init__(
        self,
        config: ModelConfig,
        checkpoint: Checkpoint,
        placement: Placement,
        kv: KVFormat = "auto",
        cpu_experts: int = 0,
        graphs: Graphs = "auto",
    ):
        """Raises ValueError for more `cpu_experts` than there are layers."""
        layers = expect_whole("cpu_experts", cpu_experts, 0, config.num_hidden_layers)
        self.graphs = graphs
        self.cpu_experts = 0 if placement.device.type == "cpu" else layers
        self.config = config
        self.checkpoint = checkpoint
        is_reference = in_float32()
        dtype = torch.float32 if is_reference else placement.dtype
        self.layout = CacheLayout.of(config, dtype, placement.device, kv)
        self._weight_dtype = None if is_reference else dtype

    @cached_property
    def _embed_tokens(self) -> Matrix:
        return self.matrix("model.embed_tokens")

    def embedding(self) -> Embedding:
        """The table, and what is done to its rows."""
        bias, scale = (self.small(f"model.input_hidden_states_{name}") for name in ("bias", "scale"))
        return Embedding(self._embed_tokens, bias, scale)

    def head(self) -> Head:
        """The last norm and the vocabulary's matrix, which may be the embedding's."""
        matrix = self._embed_tokens if self.config.tie_word_embeddings else self.matrix("lm_head")
        bias = self.small("lm_head.bias") if self.config.lm_head_bias else None
        return Head(self.rms_norm("model.norm"), matrix.with_bias(bias))

    def small(self, name: str) -> Tensor:
        """A parameter whose bytes do not matter, in float32. Raises CheckpointError for values that are not finite."""
        stored = self.checkpoint.tensor(name)
        if not torch.isfinite(stored).all():
            raise CheckpointError(
                f"{self.checkpoint.folder}: {name} has values that are not finite: download the files again."
            )
        return stored.to(self.layout.device, torch.float32)

    def matrix(self, name: str) -> Matrix:
        """The matrix `{name}.weight` with its bias, as floats or packed as it is stored."""
        weight, bias_name = f"{name}.weight", f"{name}.bias"
        has_bias = self.config.attention_bias and bias_name in self.checkpoint.parameters
        bias = self._placed(self.checkpoint.tensor(bias_name), self.layout.dtype) if has_bias else None
        packed = self.checkpoint.packed.get(weight)
        if packed is None:
            return DenseMatrix(self._matrix_placed(self.checkpoint.tensor(weight)), bias)
        n, k = packed.shape
        return packed_matrix(packed.kind, self._packed(weight), (n, k), bias)

    def stack(self, name: str, device: torch.device | None = None) -> Stack[Any]:
        """The matrices of all experts of a layer. device: where they lie, None for the model's."""
        packed = self.checkpoint.packed.get(name)
        if packed is None:
            placed = partial(self._matrix_placed, device=device)
            # By `map`, which holds on to none that it has handed over.
            return DenseStack([*map(placed, self.checkpoint.each_expert(name))])
        experts, n, k = packed.shape
        tensors = self._packed(name, device)
        one_each = [{suffix: tensor[e] for suffix, tensor in tensors.items()} for e in range(experts)]
        return packed_stack(packed.kind, one_each, (n, k))

    def _packed(self, name: str, device: torch.device | None = None) -> dict[str, Tensor]:
        read, sources = self.checkpoint.packed_tensor, self.checkpoint.packed[name].sources
        return {suffix: self._placed(read(name, suffix), None, device) for suffix in sources}

    def _matrix_placed(self, tensor: Tensor, device: torch.device | None = None) -> Tensor:
        return self._placed(tensor, self._weight_dtype, device)

    def _placed(self, tensor: Tensor, dtype: torch.dtype | None, device: torch.device | None = None) -> Tensor:
        """On a device, None for the model's, and only there in another dtype; dtype None: as it is stored."""
        placed = tensor.to(self.layout.device if device is None else device)
        return share_large_pages(placed if dtype is None else placed.to(dtype))

    def rms_norm(self, name: str) -> RMSNorm:
        """A norm by name."""
        return RMSNorm(self.small(f"{name}.weight"), self.config.rms_norm_eps)

    def residual_scaling(self, name: str) -> ResidualScaling:
        """A merge of a branch into the residual stream by name."""
        return ResidualScaling(*(self.small(f"{name}.{part}") for part in RESIDUAL_PARTS))

    def empty_delayed(self, layer: DecoderLayer) -> Tensor:
        """V's delayed half for no token: `v_proj_delayed(0)`, which is not zero where the projection has a bias."""
        bias = layer.qkv_proj.delayed_bias
        zeros = torch.zeros(self.config.delayed_width, device=self.layout.device, dtype=self.layout.dtype)
        return zeros if bias is None else zeros + bias.to(zeros.dtype)

    def layer(self, number: int) -> DecoderLayer:
        """One decoder layer."""
        prefix, config = f"model.layers.{number}.", self.config
        temp = self.small(prefix + "self_attn.qk_norm.temp")
        return DecoderLayer(
            number=number,
            layer_type=config.layer_types[number],
            dtype=self.layout.dtype,
            input_layernorm=self.rms_norm(prefix + "input_layernorm"),
            qkv_proj=self._cca(prefix + "self_attn.qkv_proj."),
            qk_norm=QKNorm(temp, config.num_attention_heads, config.head_dim),
            o_proj=self.matrix(prefix + "self_attn.o_proj"),
            post_attention_residual_scale=self.residual_scaling(prefix + "post_attention_residual_scale"),
            post_attention_layernorm=self.rms_norm(prefix + "post_attention_layernorm"),
            router=self._router(prefix + "mlp.gate."),
            experts=self._experts(prefix + "mlp.experts.", in_host_memory=number < self.cpu_experts),
            post_mlp_residual_scale=self.residual_scaling(prefix + "post_mlp_residual_scale"),
        )

    def _cca(self, prefix: str) -> CCAProjection:
        config = self.config
        names = ("q_proj", "k_proj", "v_proj_current", "v_proj_delayed")
        convolutions = CausalConvolutions(
            (self.small(prefix + "conv_qk_depthwise.weight"), self.small(prefix + "conv_qk_depthwise.bias")),
            (self.small(prefix + "conv_qk_grouped.weight"), self.small(prefix + "conv_qk_grouped.bias")),
            config.head_dim,
        )
        projections = [self.matrix(prefix + name) for name in names]
        # One launch instead of four; on a CPU they stay where they are mapped.
        together = None if self.layout.device.type == "cpu" else joined(projections)
        heads = config.num_attention_heads, config.num_key_value_heads
        return CCAProjection(projections, convolutions, *heads, together)

    def _router(self, prefix: str) -> Router:
        names = [name for name in self.checkpoint.parameters if name.startswith(prefix)]
        return Router({name.removeprefix(prefix): self.small(name) for name in names}, self.config.rms_norm_eps)

    def _experts(self, prefix: str, in_host_memory: bool) -> Experts:
        kind, device = (HostExperts, torch.device("cpu")) if in_host_memory else (Experts, None)
        gate_up, down = (self.stack(prefix + name, device) for name in ("gate_up_proj", "down_proj"))
        return kind(gate_up, down, skip_keeps_input=self.config.layout == "original")
