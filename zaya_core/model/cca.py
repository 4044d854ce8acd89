"""Compressed Convolutional Attention: queries, keys and values in a narrower width, mixed by two short convolutions.

One code path for a whole prompt, a chunk, or one token: a whole prompt is a chunk that starts from the empty state.
(Paper: arXiv 2510.04476; reference: `ZayaCCAProjection`.)
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from quant.matrix import Matrix
from zaya_core.cache.step import CacheStep


class CausalConvolutions:
    """A depthwise convolution over time, then one within each head (reference: `conv_qk_depthwise`, `conv_qk_grouped`).

    Neither pads: the caller prepends the W columns before the first token. The depthwise bias applies to those, too.
    Dtype: float32.
    """

    def __init__(self, depthwise: tuple[Tensor, Tensor], grouped: tuple[Tensor, Tensor], head_dim: int):
        """depthwise: weight (C, 1, taps), bias (C); grouped: weight (C, K, taps), bias (C)."""
        self.depthwise_taps = depthwise[0].float()[:, 0].t().contiguous()  # (taps, C)
        self.depthwise_bias = depthwise[1].float()
        weight = grouped[0].float().unflatten(0, (-1, head_dim))  # (heads, K out, K in, taps)
        self.head_dim = head_dim
        self.grouped_width = weight.shape[3]
        self.grouped_weight = weight.permute(0, 3, 2, 1).flatten(1, 2).contiguous()  # (heads, taps * K in, K out)
        self.grouped_bias = grouped[1].float().unflatten(0, (-1, 1, head_dim))  # (heads, 1, K)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return self.depthwise_taps.nbytes + self.grouped_weight.nbytes

    def __call__(self, columns: Tensor) -> Tensor:
        """columns: (B, W + T, C) -> (B, T, H + G, K)."""
        heads, _, head_dim = self.grouped_bias.shape
        length = columns.shape[1] - len(self.depthwise_taps) + 1
        mixed = self.depthwise_bias
        for tap, weight in enumerate(self.depthwise_taps):
            mixed = torch.addcmul(mixed, columns[:, tap : tap + length], weight)
        length -= self.grouped_width - 1  # T
        by_head = mixed.unflatten(2, (heads, head_dim))
        windows = torch.cat([by_head[:, tap : tap + length] for tap in range(self.grouped_width)], dim=-1)
        rows = windows.flatten(0, 1).transpose(0, 1)  # (heads, B * T, taps * K)
        out = torch.baddbmm(self.grouped_bias, rows, self.grouped_weight)
        return out.transpose(0, 1).unflatten(0, (columns.shape[0], length))


class CCAProjection:
    """Hidden states to queries, keys and values.

    State: reads and replaces the layer's convolution tail and delayed value.
    """

    def __init__(
        self,
        projections: Sequence[Matrix],
        convolutions: CausalConvolutions,
        num_attention_heads: int,
        num_key_value_heads: int,
        joined: Matrix | None = None,
    ):
        """projections: q_proj, k_proj, v_proj_current, v_proj_delayed. joined: all four as one matrix, used instead."""
        self.matrices = tuple(projections) if joined is None else (joined,)
        q, k, current, delayed = (matrix.shape[0] for matrix in projections)
        self._widths = [q + k, current, delayed]
        self._queries_and_keys = [q, k]
        self.delayed_bias = projections[3].bias
        self.convolutions = convolutions
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads

    def with_matrices(self, matrices: Sequence[Matrix]) -> CCAProjection:
        """The same projection by other products: `matrices` in place of those of the same name."""
        other = copy(self)
        other.matrices = tuple(matrices)
        return other

    def __call__(self, x: Tensor, step: CacheStep, layer: int) -> tuple[Tensor, Tensor]:
        """x: (B, T, D) -> queries and keys (B, T, H + G, K) float32, values (B, T, G, K) in the dtype of x."""
        query_and_key, current, own_delayed = self._projected(x)
        columns = torch.cat([step.conv_tail(layer), query_and_key], dim=1)  # (B, W + T, C)
        in_float32 = columns.float()
        new = in_float32[:, -x.shape[1] :].split(self._queries_and_keys, dim=-1)
        qk = self.convolutions(in_float32) + self._skip_path(*new)
        delayed = torch.cat([step.delayed(layer)[:, None], own_delayed], dim=1)  # (B, 1 + T, ...)
        value = torch.cat([current, delayed[:, :-1]], dim=-1)
        step.keep_state(columns, delayed)
        return qk, value.unflatten(-1, (self.num_key_value_heads, -1))

    def _projected(self, x: Tensor) -> Sequence[Tensor]:
        """Queries beside keys, and both halves of values."""
        if len(self.matrices) == 1:
            return self.matrices[0].matmul(x).split(self._widths, dim=-1)
        query, key, current, delayed = (matrix.matmul(x) for matrix in self.matrices)
        return torch.cat([query, key], dim=-1), current, delayed

    def _skip_path(self, query: Tensor, key: Tensor) -> Tensor:
        """What bypasses the convolutions: each query averaged with its group's key, each key with its group's queries.

        query: (B, T, H*K), key: (B, T, G*K) -> (B, T, H + G, K)
        """
        groups = self.num_key_value_heads
        grouped = query.unflatten(-1, (groups, self.num_attention_heads // groups, -1))  # (B, T, G, H/G, K)
        query_mean = (grouped + key.unflatten(-1, (groups, 1, -1))) * 0.5
        return torch.cat([query_mean.flatten(2, 3), query_mean.mean(dim=3)], dim=2)
