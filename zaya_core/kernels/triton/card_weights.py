"""A model's weights as the kernels of a decode step read them, and as torch and kernels compute a prompt with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

from torch import Tensor

from quant.kernels.triton.product import expect_pairs
from quant.kernels.triton.weights import CardMatrix, CardStack
from zaya_core.cache.layout import CacheLayout
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.rope import SLIDING
from zaya_core.kernels.triton.cca import CCAWeights
from zaya_core.kernels.triton.matrices import CardExperts, for_prompts, on_card, stack_on_card
from zaya_core.kernels.triton.online_softmax import LEAST_DOT
from zaya_core.kernels.triton.router import RouterWeights
from zaya_core.model.host_experts import HostExperts
from zaya_core.model.layer import DecoderLayer
from zaya_core.model.norm import RMSNorm
from zaya_core.model.residual import ResidualScaling
from zaya_core.model.rope import RotaryEmbedding
from zaya_core.model.steps import Declined
from zaya_core.model.weights import Embedding, Head, ModelWeights

T = TypeVar("T")


@dataclass(frozen=True)
class CardLayer:
    """Of one layer. window: positions that a query sees, None for all; kind: whose rotary angles it has.

    qkv: the projections in the order of their outputs, one matrix or four. skip_keeps_input: as `Experts` has it.
    """

    kind: str
    window: int | None
    input_layernorm: RMSNorm
    qkv: tuple[CardMatrix, ...]
    cca: CCAWeights
    o_proj: CardMatrix
    post_attention_residual_scale: ResidualScaling
    post_attention_layernorm: RMSNorm
    router: RouterWeights
    gate_up_proj: CardStack
    down_proj: CardStack
    skip_keeps_input: bool
    post_mlp_residual_scale: ResidualScaling


@dataclass(frozen=True)
class CardModel:
    """Of a whole model. frequencies: of the rotary angles, by kind of layer."""

    config: ModelConfig
    layout: CacheLayout
    frequencies: dict[str, Tensor]
    embed_tokens: CardMatrix
    embedding_bias: Tensor
    embedding_scale: Tensor
    layers: tuple[CardLayer, ...]
    norm: RMSNorm
    lm_head: CardMatrix


class CardWeights:
    """See `ModelWeights`: the parts of another one, each read once, whose packed products are those of kernels.

    State: what the kernels of a decode step read of the parts that were asked for.
    """

    def __init__(self, weights: ModelWeights):
        """Raises Declined for what the kernels do not compute."""
        self.config, self.layout, self.graphs = weights.config, weights.layout, weights.graphs
        self._weights = weights
        self._layers: list[CardLayer] = []

    def embedding(self) -> Embedding:
        """See `ModelWeights`."""
        return self._both_ends[0]

    def head(self) -> Head:
        """See `ModelWeights`. Raises Declined."""
        head = self._both_ends[1]
        return replace(head, lm_head=_declining(lambda: for_prompts(head.lm_head, "the head")))

    @cached_property
    def _both_ends(self) -> tuple[Embedding, Head]:
        return self._weights.embedding(), self._weights.head()

    def layer(self, number: int) -> DecoderLayer:
        """See `ModelWeights`. In their order. Raises Declined."""
        layer = self._weights.layer(number)
        if isinstance(layer.experts, HostExperts):
            raise Declined("experts in main memory are multiplied there")
        read = _declining(lambda: card_layer(layer, self.config))
        self._layers.append(read)
        return _computing_prompts(layer, read)

    def empty_delayed(self, layer: DecoderLayer) -> Tensor:
        """See `ModelWeights`."""
        return self._weights.empty_delayed(layer)

    def on_card(self) -> CardModel:
        """When all layers have been asked for."""
        embedding, head = self._both_ends
        device, config = self.layout.device, self.config
        rotary = {kind: RotaryEmbedding(config.rope_parameters[kind], config.head_dim, device)
                  for kind in sorted(set(config.layer_types))}  # fmt: skip
        return CardModel(
            config=config,
            layout=self.layout,
            frequencies={kind: one.frequencies for kind, one in rotary.items()},
            embed_tokens=_declining(lambda: on_card(embedding.embed_tokens, "the embedding")),
            embedding_bias=embedding.bias,
            embedding_scale=embedding.scale,
            layers=tuple(self._layers),
            norm=head.norm,
            lm_head=_declining(lambda: on_card(head.lm_head, "the head")),
        )


def card_layer(layer: DecoderLayer, config: ModelConfig) -> CardLayer:
    """The same weights but for small ones, which are copied. Raises Declined, or ValueError for sizes of others."""
    projection, experts = layer.qkv_proj, layer.experts
    if config.head_dim < LEAST_DOT:
        raise ValueError(f"matrix units multiply {LEAST_DOT} numbers at least; heads have {config.head_dim}")
    gate_up_proj = stack_on_card(experts.gate_up_proj, "experts")
    expect_pairs(gate_up_proj)
    return CardLayer(
        kind=layer.layer_type,
        window=config.sliding_window if layer.layer_type == SLIDING else None,
        input_layernorm=layer.input_layernorm,
        qkv=tuple(on_card(one, "attention") for one in projection.matrices),
        cca=CCAWeights.of(projection.convolutions, layer.qk_norm),
        o_proj=on_card(layer.o_proj, "attention"),
        post_attention_residual_scale=layer.post_attention_residual_scale,
        post_attention_layernorm=layer.post_attention_layernorm,
        router=RouterWeights.of(layer.router),
        gate_up_proj=gate_up_proj,
        down_proj=stack_on_card(experts.down_proj, "experts"),
        skip_keeps_input=experts.skip_keeps_input,
        post_mlp_residual_scale=layer.post_mlp_residual_scale,
    )


def _computing_prompts(layer: DecoderLayer, read: CardLayer) -> DecoderLayer:
    experts = CardExperts(layer.experts, read.gate_up_proj, read.down_proj)
    projection = layer.qkv_proj.with_matrices([for_prompts(one, "attention") for one in layer.qkv_proj.matrices])
    return replace(layer, qkv_proj=projection, o_proj=for_prompts(layer.o_proj, "attention"), experts=experts)


def _declining(read: Callable[[], T]) -> T:
    """Raises Declined with what the kernels say of sizes that they do not compute."""
    try:
        return read()
    except ValueError as why:
        raise Declined(str(why)) from None
