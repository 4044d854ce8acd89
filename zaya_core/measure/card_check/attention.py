"""Attention over keys and values in blocks: of one token a row, and of a prompt's."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from quant.int8 import nearest_int8
from quant.kernels.triton.choice import architecture
from quant.kernels.triton.launch import run_all
from zaya_core.cache.arrangement import BLOCK
from zaya_core.kernels.triton.attention_step import Parts, attention_shape, attention_step
from zaya_core.kernels.triton.paged_cache import LayerKV
from zaya_core.kernels.triton.prompt_attention import prompt_attention
from zaya_core.measure.card_check.check import Check, largest_difference, random, whole

_TOLERANCE = 2e-2  # queries and weights are rounded to bfloat16 on cards
_STORED = ("float32", "bfloat16", "int8")
_SIZES = ((4, 2, 32), (16, 2, 128))  # H, G, K: the demo's, and ZAYA1-8B's heads
_POSITIONS = (BLOCK - 1, 0, BLOCK + 40)
_PAST, _NEW = (250, 0), (20, 3)  # tokens that are there, and a chunk's


def attention_checks() -> list[Check]:
    """By how keys and values are stored."""
    kinds = {"attention of a token": _of_token, "attention of a prompt": _of_prompt}
    return [
        Check(f"{name}, {stored} keys and values", partial(difference, stored), _TOLERANCE)
        for name, difference in kinds.items()
        for stored in _STORED
    ]


def _of_token(stored: str, device: torch.device) -> float:
    worst = 0.0
    for heads, groups, head_dim in _SIZES:
        rows, (kv, keys, values, table) = len(_POSITIONS), _blocks(stored, groups, head_dim, len(_POSITIONS), device)
        query, out = random(rows, heads * head_dim, seed=3, device=device), torch.zeros(rows, heads * head_dim)
        out = out.to(device)
        shape = attention_shape(architecture(device), rows, kv.keys.dtype)
        parts = Parts.empty(rows, heads, head_dim, shape.splits, device)
        run_all(attention_step(query, kv, whole(_POSITIONS, device), table, None, parts, out, shape), device)
        of_heads = query.unflatten(1, (heads, head_dim))
        expected = [
            _attended(of_heads[row], *(_row(one, table, row, at + 1) for one in (keys, values)))
            for row, at in enumerate(_POSITIONS)
        ]
        worst = max(worst, largest_difference(out, torch.stack(expected)))
    return worst


def _of_prompt(stored: str, device: torch.device) -> float:
    worst = 0.0
    for heads, groups, head_dim in _SIZES:
        rows, (kv, keys, values, table) = len(_NEW), _blocks(stored, groups, head_dim, len(_NEW), device)
        query = random(rows, max(_NEW), heads, head_dim, seed=3, device=device)
        ends = [past + new for past, new in zip(_PAST, _NEW, strict=True)]
        out = prompt_attention(query, kv, table, whole(ends, device), whole(_NEW, device), None)
        expected = torch.zeros_like(out).flatten(2)
        for row, (past, new) in enumerate(zip(_PAST, _NEW, strict=True)):
            for t in range(new):
                seen = (_row(one, table, row, past + t + 1) for one in (keys, values))
                expected[row, t] = _attended(query[row, t], *seen)
        worst = max(worst, largest_difference(out.flatten(2), expected))
    return worst


def _blocks(
    stored: str, groups: int, head_dim: int, rows: int, device: torch.device
) -> tuple[LayerKV, Tensor, Tensor, Tensor]:
    """Random keys and values as they are stored, the same numbers in float32, and two blocks of them for each row."""
    keys, values = random(2, 1 + 2 * rows, groups, BLOCK, head_dim, seed=5, device=device)
    table = 1 + whole(range(2 * rows), device).view(rows, 2)
    if stored != "int8":
        kv = LayerKV(*(one.to(getattr(torch, stored)) for one in (keys, values)))
        return kv, kv.keys.float(), kv.values.float(), table
    (keys, key_scales), (values, value_scales) = nearest_int8(keys), nearest_int8(values)
    kv = LayerKV(keys, values, key_scales, value_scales)
    return kv, keys * key_scales[..., None], values * value_scales[..., None], table


def _row(stored: Tensor, table: Tensor, row: int, length: int) -> Tensor:
    """(blocks, G, BLOCK, K) -> a row's first positions (G, S, K)."""
    return torch.cat([stored[block] for block in table[row].tolist()], dim=1)[:, :length]


def _attended(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(K)) v of one token. query: (H, K), keys, values: (G, S, K) -> (H*K)."""
    grouped = query.unflatten(0, (len(keys), -1))
    scores = grouped @ keys.transpose(1, 2) * query.shape[-1] ** -0.5
    return (scores.softmax(-1) @ values).flatten()
