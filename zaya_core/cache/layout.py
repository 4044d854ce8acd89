"""Sizes of the state that a row of a model has, whatever device keeps it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from zaya_core.cache.arrangement import BLOCK
from zaya_core.config.kv_format import KVFormat, bytes_of_head
from zaya_core.config.model_config import ModelConfig


@dataclass(frozen=True)
class CacheLayout:
    """Sizes of the state of one row: L, G, K, W, C and the width of a delayed value."""

    num_layers: int
    num_key_value_heads: int
    head_dim: int
    conv_tail: int
    cca_channels: int
    dtype: torch.dtype
    device: torch.device
    kv: KVFormat = "auto"

    def state_shapes(self, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of B rows' convolution tails and delayed values."""
        tail = (self.num_layers, batch, self.conv_tail, self.cca_channels)
        return tail, (self.num_layers, batch, self.num_key_value_heads * self.head_dim // 2)

    @property
    def kv_dtype(self) -> torch.dtype:
        """Of stored keys and values."""
        return torch.int8 if self.kv == "int8" else self.dtype

    @property
    def bytes_per_block(self) -> int:
        """Bytes of K and V of a block in all layers."""
        of_head = bytes_of_head(self.kv, self.head_dim, self.dtype.itemsize)
        return 2 * self.num_layers * BLOCK * self.num_key_value_heads * of_head

    @classmethod
    def of(cls, config: ModelConfig, dtype: torch.dtype, device: torch.device, kv: KVFormat = "auto") -> CacheLayout:
        """For a model that computes in `dtype` on a device."""
        return cls(
            num_layers=config.num_hidden_layers,
            num_key_value_heads=config.num_key_value_heads,
            head_dim=config.head_dim,
            conv_tail=config.conv_tail,
            cca_channels=config.cca_channels,
            dtype=dtype,
            device=device,
            kv=kv,
        )
