"""What a model consists of, read one part at a time: nothing is kept that the device which computes does not read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from quant.matrix import Matrix
from zaya_core.cache.layout import CacheLayout
from zaya_core.config.graphs import Graphs
from zaya_core.config.model_config import ModelConfig
from zaya_core.model.layer import DecoderLayer
from zaya_core.model.norm import RMSNorm


@dataclass(frozen=True)
class Embedding:
    """(row + bias) * scale: ids to the residual stream. bias, scale: (D) float32."""

    embed_tokens: Matrix
    bias: Tensor
    scale: Tensor

    def __call__(self, ids: Tensor) -> Tensor:
        """ids (B, T) -> (B, T, D) float32. Raises IndexError for an id that is no row."""
        return (self.embed_tokens.rows(ids).float() + self.bias) * self.scale


@dataclass(frozen=True)
class Head:
    """The last norm and the product with the vocabulary."""

    norm: RMSNorm
    lm_head: Matrix

    def __call__(self, residual: Tensor, dtype: torch.dtype) -> Tensor:
        """residual (B, T, D) float32 -> (B, T, V) float32; dtype: that of the product's input."""
        return self.lm_head.matmul_float32(self.norm(residual).to(dtype))


class ModelWeights(Protocol):
    """A checkpoint's parts on a device, made anew at each call. `layout`: of what its rows keep; `graphs`: whether a
    card is to replay a decode step as a recorded graph."""

    config: ModelConfig
    layout: CacheLayout
    graphs: Graphs

    def embedding(self) -> Embedding: ...

    def layer(self, number: int) -> DecoderLayer: ...

    def head(self) -> Head: ...

    def empty_delayed(self, layer: DecoderLayer) -> Tensor:
        """V's delayed half for no token: (G*K/2)."""
