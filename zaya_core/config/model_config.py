"""Sizes and switches of a model, whichever layout its checkpoint has.

Names are those of transformers' `ZayaConfig`; `docs/checkpoints.md` lists how the keys of the original 80-layer layout
map to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from zaya_core.config.kv_format import KVFormat, bytes_of_head
from zaya_core.config.quantization import Quantization
from zaya_core.config.rope import RopeParameters

Layout = Literal["native", "original"]


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and switches of one ZAYA model, whichever layout its checkpoint has."""

    layout: Layout
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    num_experts: int
    moe_intermediate_size: int
    router_hidden_size: int
    cca_time0: int
    cca_time1: int
    rms_norm_eps: float
    max_position_embeddings: int
    layer_types: tuple[str, ...]
    rope_parameters: Mapping[str, RopeParameters]
    sliding_window: int | None
    attention_bias: bool
    lm_head_bias: bool
    tie_word_embeddings: bool
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    pad_token_id: int | None
    quantization: Quantization | None = None
    unknown_keys: tuple[str, ...] = ()
    expert_block: str = "zaya_block"  # what the original layout calls a half layer's router and experts in names

    @property
    def cca_channels(self) -> int:
        """C: channels of the convolutions, queries first, then keys."""
        return (self.num_attention_heads + self.num_key_value_heads) * self.head_dim

    @property
    def conv_tail(self) -> int:
        """W: how many earlier columns both convolutions together look back."""
        return self.cca_time0 + self.cca_time1 - 2

    @property
    def delayed_width(self) -> int:
        """Width of the half of V that comes from the previous token."""
        return self.num_key_value_heads * self.head_dim // 2

    def kv_bytes_per_token(self, bytes_per_value: int = 2, kv: KVFormat = "auto") -> int:
        """Bytes of K and V of all layers for one position. bytes_per_value: of the model's dtype."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * bytes_of_head(kv, self.head_dim, bytes_per_value)
