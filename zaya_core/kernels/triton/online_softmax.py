"""Attention over one run of positions after another: softmax without all scores at once, in base 2."""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = 1.4426950408889634  # a factor of the scores, so that exp2 is their exp
LEAST_DOT = 16  # rows that a card multiplies at least


@triton.jit
def attend_run(
    largest,
    total,
    out,
    q,
    keys,
    values,
    key_scales,
    value_scales,
    slot,
    seen,
    softmax_scale,
    K: tl.constexpr,
    DOT: tl.constexpr,
):
    """largest, total (M), out (M, K) of the runs before, and those behind this one. q: (M, K).

    slot: (N), where the run's keys and values are; seen: (M, N), or (1, N) of all queries. What no query sees is not
    read. Codes of int8 are multiplied as they are, their scales with what they meet: a score, or a weight.
    """
    is_read = tl.max(seen.to(tl.int32), 0) > 0
    at = slot[:, None] * K + tl.arange(0, K)[None, :]
    k = tl.load(keys + at, mask=is_read[:, None], other=0.0).to(tl.float32)
    scores = tl.dot(q.to(DOT), tl.trans(k.to(DOT)), input_precision="ieee") * softmax_scale
    if keys.dtype.element_ty == tl.int8:
        scores *= tl.load(key_scales + slot, mask=is_read, other=0.0)[None, :]
    scores = tl.where(seen, scores, -1e30)
    larger = tl.maximum(largest, tl.max(scores, 1))
    weight = tl.where(seen, tl.exp2(scores - larger[:, None]), 0.0)
    factor = tl.exp2(largest - larger)
    total = total * factor + tl.sum(weight, 1)
    v = tl.load(values + at, mask=is_read[:, None], other=0.0).to(tl.float32)
    if values.dtype.element_ty == tl.int8:
        weight *= tl.load(value_scales + slot, mask=is_read, other=0.0)[None, :]
    out = out * factor[:, None] + tl.dot(weight.to(DOT), v.to(DOT), input_precision="ieee")
    return larger, total, out


@triton.jit
def slots_of_run(table, start, g, G: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr):
    """Where a head's positions start..start + STEP - 1, which lie in one block, are -> (STEP) int64."""
    block = tl.load(table + start // BLOCK).to(tl.int64)
    return (block * G + g) * BLOCK + start % BLOCK + tl.arange(0, STEP)
