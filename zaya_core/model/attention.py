"""Grouped-query attention (reference: `ZayaAttention`)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from zaya_core.model.forward_pass import AttentionInputs


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
