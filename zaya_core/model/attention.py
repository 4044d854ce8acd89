"""Grouped-query attention (reference: `ZayaAttention`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from zaya_core.model.forward_pass import AttentionInputs, ForwardPass

SCORES = 1 << 24  # most that are computed at once on a card: 64 MB in float32


def attend_to_cache(query: Tensor, pass_: ForwardPass, layer: int) -> Tensor:
    """Over a layer's keys and values in the cache, those of this pass among them. query: (B, T, H, K) -> same."""
    step, inputs = pass_.step, pass_.inputs(layer)
    outs = [_grouped_query_attention(query[rows], *step.gather(layer, rows), inputs, rows) for rows in step.parts]
    return outs[0] if len(outs) == 1 else torch.cat(outs)


def _grouped_query_attention(
    query: Tensor, keys: Tensor, values: Tensor, inputs: AttentionInputs, rows: slice
) -> Tensor:
    """softmax(q k^T / sqrt(K)) v, H / G queries for each key head, of some rows of a pass.

    query: (b, T, H, K), keys and values: (b, S, G, K) -> (b, T, H, K)
    """
    keys, values = keys.transpose(1, 2), values.transpose(1, 2)  # (B, G, S, K)
    if query.shape[1] == 1:
        # One token: the queries of a group become the rows of one product, so that K and V are read once for them.
        grouped = query.unflatten(2, (keys.shape[1], -1))[:, 0]  # (B, G, H/G, K)
        return F.scaled_dot_product_attention(grouped, keys, values, inputs.mask_of(rows)).flatten(1, 2)[:, None]
    if query.device.type != "cpu" and not (inputs.is_causal and query.shape[1] <= _at_once(query, keys)):
        return _by_slices_of_queries(query, keys, values, partial(inputs.visible, rows=rows))
    out = F.scaled_dot_product_attention(
        query.transpose(1, 2), keys, values, inputs.mask_of(rows), is_causal=inputs.is_causal, enable_gqa=True
    )
    return out.transpose(1, 2)


def _by_slices_of_queries(query: Tensor, keys: Tensor, values: Tensor, visible: Callable[[int, int], Tensor]) -> Tensor:
    """On a card: no fused attention of torch takes every mask with grouped heads, and the plain one keeps all scores.

    keys, values: (b, G, S, K); visible: (start, stop) -> the mask of these queries -> (b, T, H, K)
    """
    groups, step, outs = keys.shape[1], _at_once(query, keys), []
    for start in range(0, query.shape[1], step):
        part = query[:, start : start + step]
        rows = part.unflatten(2, (groups, -1)).permute(0, 2, 3, 1, 4).flatten(2, 3)  # (B, G, H/G * t, K)
        mask = visible(start, start + part.shape[1]).repeat(1, 1, query.shape[2] // groups, 1)
        out = F.scaled_dot_product_attention(rows, keys, values, mask)
        outs.append(out.unflatten(2, (-1, part.shape[1])).permute(0, 3, 1, 2, 4).flatten(2, 3))
    return torch.cat(outs, dim=1)


def _at_once(query: Tensor, keys: Tensor) -> int:
    """Queries of each row whose scores take no more than SCORES. Rows that have seen nothing have no keys."""
    return max(1, SCORES // max(1, query.shape[0] * query.shape[2] * keys.shape[2]))
