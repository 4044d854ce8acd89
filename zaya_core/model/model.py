"""ZAYA, top down: embedding, L blocks of attention and experts around a float32 residual stream, norm, head.

    ids -> embed_tokens, scale -> [norm, attention, merge, norm, router, expert, merge] x L -> norm -> lm_head

Reference: `ZayaForCausalLM`. How the parts are made from a checkpoint is in `load.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from quant.dense import products_of
from quant.kernels.pointers import described
from quant.matrix import Matrix
from zaya_core.cache.cache import BlockPool, Cache, CacheLayout, CacheStep
from zaya_core.config.kv_format import KVFormat
from zaya_core.config.model_config import ModelConfig
from zaya_core.kernels.fused import FusedDecoder, FusedSteps
from zaya_core.kernels.vocabulary import NativeEmbedding, NativeHead
from zaya_core.model.attention import Attention, AttentionInputs
from zaya_core.model.experts import Experts
from zaya_core.model.norm import RMSNorm
from zaya_core.model.residual import ResidualScaling
from zaya_core.model.rope import RotaryEmbedding
from zaya_core.model.router import Router

# Tokens of a long prompt that are computed together: they share one pass over the weights of all experts. More hardly
# gain and make rows that are being answered wait (docs/cpu_performance.md).
PREFILL_CHUNK = 1024


class Cancelled(Exception):
    """A forward pass was asked to stop between two layers; its cache is as before the pass."""


@dataclass(frozen=True)
class Block:
    """One decoder layer (reference: `ZayaDecoderLayer`)."""

    layer: int
    layer_type: str
    input_layernorm: RMSNorm
    attention: Attention
    post_attention_residual_scale: ResidualScaling
    post_attention_layernorm: RMSNorm
    router: Router
    experts: Experts
    post_mlp_residual_scale: ResidualScaling
    fused: FusedSteps | None = None
    note_choice: Callable[[Tensor], None] | None = None

    @property
    def float_nbytes(self) -> int:
        """Bytes of the convolutions' and the router's weights as a pass reads them."""
        if self.fused is not None:
            return self.fused.native.panel_nbytes
        return self.attention.qkv_proj.convolutions.nbytes + self.router.nbytes

    def __call__(
        self,
        residual: Tensor,
        router_state: Tensor | None,
        inputs: AttentionInputs,
        step: CacheStep,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """residual: (B, T, D) float32, router_state: (N, R) of the layer before -> the same of this layer.

        `fused` replaces all of it where the native library has it, then in place. `note_choice` gets each row's choice.
        """
        if self.fused is not None:
            residual, router_state, choice = self.fused(residual, router_state, inputs, step, self.layer)
        else:
            residual, router_state, choice = self._forward(residual, router_state, inputs, step, dtype)
        if self.note_choice is not None:
            self.note_choice(choice)
        return residual, router_state

    def _forward(
        self,
        residual: Tensor,
        router_state: Tensor | None,
        inputs: AttentionInputs,
        step: CacheStep,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = self.input_layernorm(residual).to(dtype)
        residual = self.post_attention_residual_scale(self.attention(x, inputs, step, self.layer), residual)

        normed = self.post_attention_layernorm(residual).flatten(0, 1)  # (N, D) float32
        choice, weight, router_state = self.router(normed, router_state)
        branch = self.experts(normed.to(dtype), choice, weight, self.router.can_skip)
        return self.post_mlp_residual_scale(branch.view_as(residual), residual), router_state, choice


@dataclass(frozen=True)
class ZayaModel:
    """A loaded model. `dtype`: that of activations, K and V; residual stream, norms, router and logits are float32.

    `decoder`, `fused_embedding` and `fused_head` do what the parts before them do where the native library can, the
    first for one new token a row and all of it. `notes`: what a person should know of the files.
    """

    config: ModelConfig
    dtype: torch.dtype
    device: torch.device
    placement_reason: str
    embed_tokens: Matrix
    input_hidden_states_scale: Tensor
    input_hidden_states_bias: Tensor
    rotary: Mapping[str, RotaryEmbedding]
    blocks: Sequence[Block]
    norm: RMSNorm
    lm_head: Matrix
    empty_delayed: Tensor  # (L, G*K/2)
    pool: BlockPool
    decoder: FusedDecoder | None = None
    fused_embedding: NativeEmbedding | None = None
    fused_head: NativeHead | None = None
    notes: tuple[str, ...] = ()

    @torch.inference_mode()
    def __call__(
        self,
        ids: Tensor,
        cache: Cache | None = None,
        lengths: Sequence[int] | Tensor | None = None,
        last_only: bool = False,
        should_stop: Callable[[], bool] | None = None,
        is_prompt: bool = False,
    ) -> Tensor:
        """Logits of the next token after each of `ids`.

        Shapes: ids (B, T) int64 or int32 -> (B, T, V) float32, or (B, 1, V) with `last_only`: those after each row's
        last real token. lengths (B): rows shorter than T, down to 0 (with `last_only` 1) tokens, are padded on the
        right with any id.
        is_prompt: these are a prompt's tokens. One token a row is otherwise taken for a step of decoding, whose kernels
        round differently: with it, the bits of a prompt do not depend on where it was cut (native kernels).
        State: `cache`, which this model's `new_cache` made, is moved on by each row's length. Without one this is a
        plain forward pass.
        Raises: ValueError for arguments of other shapes, dtypes or sizes, or the cache of another model; IndexError for
        an id that the vocabulary does not have; Cancelled when `should_stop()` is true between two layers of a prompt,
        or before one token. The cache is then unchanged.
        """
        self._expect_ids(ids)
        cache = cache if cache is not None else self.new_cache(len(ids))
        self._expect_cache(cache, len(ids))
        with cache.begin(ids.shape[1], lengths) as step:
            if last_only and 0 in step.new_lengths:
                raise ValueError("with last_only each row needs a token; lengths has a 0")
            ids = ids.to(self.device, torch.int64)
            if self.decoder is not None and not is_prompt and self.decoder.can_take(step):
                return self._decode(self.decoder, ids, step, should_stop)
            return self._forward(ids, step, last_only, should_stop)

    def _expect_ids(self, ids: Tensor) -> None:
        is_usable = (
            isinstance(ids, Tensor)
            and ids.dim() == 2
            and ids.numel() > 0
            and ids.dtype in (torch.int64, torch.int32)
            and ids.layout == torch.strided
            and ids.device.type in ("cpu", self.device.type)
        )
        if not is_usable:
            raise ValueError(
                f"ids must be (B, T) int64 on {self.device}, B and T at least 1; they are {described(ids)}"
            )

    def _expect_cache(self, cache: Cache, rows: int) -> None:
        if not isinstance(cache, Cache) or cache.pool is not self.pool:
            raise ValueError("the cache is not one that this model's new_cache made")
        if cache.batch_size != rows:
            raise ValueError(f"ids have {rows} rows; the cache has {cache.batch_size}")

    def _forward(self, ids: Tensor, step: CacheStep, last_only: bool, should_stop: Callable[[], bool] | None) -> Tensor:
        with products_of(ids.numel()):
            residual = self._run(ids, step, should_stop)
            if last_only:
                last = torch.tensor(step.new_lengths, device=self.device) - 1
                residual = residual[torch.arange(len(ids), device=self.device), last][:, None]
            return self._logits(residual)

    def _run(self, ids: Tensor, step: CacheStep, should_stop: Callable[[], bool] | None) -> Tensor:
        inputs = AttentionInputs.by_layer_type(self.config, self.rotary, step)
        residual = self._embed(ids)
        router_state = None
        for block in self.blocks:
            _stop_if_asked(should_stop)
            residual, router_state = block(residual, router_state, inputs[block.layer_type], step, self.dtype)
        return residual

    def _decode(
        self, decoder: FusedDecoder, ids: Tensor, step: CacheStep, should_stop: Callable[[], bool] | None
    ) -> Tensor:
        """ids (B, 1) -> logits (B, 1, V) float32."""
        _stop_if_asked(should_stop)
        logits, choices = decoder(ids, AttentionInputs.by_layer_type(self.config, self.rotary, step), step)
        for layer, note_choice in self._observers:
            note_choice(choices[layer])
        return logits

    @cached_property
    def _observers(self) -> list[tuple[int, Callable[[Tensor], None]]]:
        return [(block.layer, block.note_choice) for block in self.blocks if block.note_choice is not None]

    def _embed(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> residual (B, T, D) float32."""
        if self.fused_embedding is not None:
            return self.fused_embedding(ids)
        embedded = self.embed_tokens.rows(ids).float()
        return (embedded + self.input_hidden_states_bias) * self.input_hidden_states_scale

    def _logits(self, residual: Tensor) -> Tensor:
        """residual (B, T, D) float32 -> (B, T, V) float32."""
        if self.fused_head is not None:
            return self.fused_head(residual)
        return self.lm_head.matmul_float32(self.norm(residual).to(self.dtype))

    def new_cache(self, batch_size: int = 1) -> Cache:
        """An empty cache of `batch_size` rows, at least 1, on the model's device. Raises ValueError."""
        return Cache.empty(self.pool, self.empty_delayed, batch_size)


def _stop_if_asked(should_stop: Callable[[], bool] | None) -> None:
    if should_stop is not None and should_stop():
        raise Cancelled


def cache_layout(config: ModelConfig, dtype: torch.dtype, device: torch.device, kv: KVFormat = "auto") -> CacheLayout:
    """Sizes of a row's state for this model."""
    return CacheLayout(
        num_layers=config.num_hidden_layers,
        num_key_value_heads=config.num_key_value_heads,
        head_dim=config.head_dim,
        conv_tail=config.conv_tail,
        cca_channels=config.cca_channels,
        dtype=dtype,
        device=device,
        kv=kv,
    )
