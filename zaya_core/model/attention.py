"""Attention of one layer: CCA projections, normalised and rotated queries and keys, grouped-query attention."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.matrix import Matrix
from zaya_core.cache.cache import CacheStep
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.rope import SLIDING
from zaya_core.model.cca import CCAProjection
from zaya_core.model.norm import QKNorm
from zaya_core.model.rope import RotaryEmbedding, rotate


class AttentionInputs:
    """What all layers of one type share in one forward pass: rotary angles and who sees whom.

    `mask` is (B, 1, T, S) bool, or None where every query sees every key. `is_causal` replaces the mask of a whole
    prompt. `first_visible`: the first position that each row's last query sees. `window`: how many positions a
    query sees, itself among them; None: all.
    """

    def __init__(self, rotary: RotaryEmbedding, step: CacheStep, window: int | None):
        self._step, self.window, self._rotary = step, window, rotary
        slides = window is not None and step.num_keys > window
        self.first_visible = [0 if window is None else max(0, end - window) for end in step.totals]
        uniform = len(set(step.totals)) == 1 and not step.is_padded
        self.is_causal = uniform and not slides and step.past[0] == 0 and step.columns > 1
        self._sees_all = uniform and not slides and step.columns == 1

    @cached_property
    def angles(self) -> tuple[Tensor, Tensor]:
        """cos, sin: (B, T, 1, rotated)."""
        return self._rotary(self._step.positions)

    @property
    def table(self) -> tuple[Tensor, Tensor]:
        """`angles` of all positions so far, and of others: (1, P, 1, rotated)."""
        return self._rotary.table(self._step.num_keys)

    @cached_property
    def mask(self) -> Tensor | None:
        return None if self.is_causal or self._sees_all else _visible(self._step, self.window)

    @classmethod
    def by_layer_type(
        cls, config: ModelConfig, rotary: Mapping[str, RotaryEmbedding], step: CacheStep
    ) -> dict[str, AttentionInputs]:
        windows = {kind: config.sliding_window if kind == SLIDING else None for kind in rotary}
        return {kind: cls(rotary[kind], step, windows[kind]) for kind in rotary}


class Attention:
    """State: appends K and V of the new tokens to the cache (reference: `ZayaAttention`)."""

    def __init__(self, qkv_proj: CCAProjection, qk_norm: QKNorm, o_proj: Matrix):
        self.qkv_proj = qkv_proj
        self.qk_norm = qk_norm
        self.o_proj = o_proj
        self.num_attention_heads = qkv_proj.num_attention_heads

    def __call__(self, x: Tensor, inputs: AttentionInputs, step: CacheStep, layer: int) -> Tensor:
        """x: (B, T, D) -> (B, T, D), both in the model's dtype."""
        qk, value = self.qkv_proj(x, step, layer)
        qk = rotate(self.qk_norm(qk), *inputs.angles).to(x.dtype)
        query, key = qk[:, :, : self.num_attention_heads], qk[:, :, self.num_attention_heads :]
        keys, values = step.append(layer, key, value)
        return self.o_proj.matmul(grouped_query_attention(query, keys, values, inputs).flatten(2))


def grouped_query_attention(query: Tensor, keys: Tensor, values: Tensor, inputs: AttentionInputs) -> Tensor:
    """softmax(q k^T / sqrt(K)) v, H / G queries for each key head.

    query: (B, T, H, K), keys and values: (B, S, G, K) -> (B, T, H, K)
    """
    keys, values = keys.transpose(1, 2), values.transpose(1, 2)  # (B, G, S, K)
    if query.shape[1] == 1:
        # One token: the queries of a group become the rows of one product, so that K and V are read once for them.
        grouped = query.unflatten(2, (keys.shape[1], -1))[:, 0]  # (B, G, H/G, K)
        return F.scaled_dot_product_attention(grouped, keys, values, inputs.mask).flatten(1, 2)[:, None]
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2), keys, values, inputs.mask, is_causal=inputs.is_causal, enable_gqa=True
    )
    return out.transpose(1, 2)


def _visible(step: CacheStep, window: int | None) -> Tensor:
    """(B, 1, T, S) bool: keys at or before the query, within the window if there is one (it counts the query)."""
    keys = torch.arange(step.num_keys, device=step.device)
    queries = step.positions[:, None, :, None]  # (B, 1, T, 1)
    seen = keys <= queries
    return seen if window is None else seen & (keys > queries - window)
