"""Softmax over chunks of the vocabulary: the largest logit of each and the sum of its weights.

`draw.begin_draw` combines them, always in the same order, so that a card repeats itself. NaN and +inf make a sum NaN.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton.launch import Launch
from zaya_core.kernels.triton.sampling.buffers import DrawBuffers
from zaya_core.kernels.triton.sampling.requests import TEMPERATURE, expect_requests


@triton.jit
def weight_sum(x, most, temperature):
    """Of one chunk: sum(e^((x - most) / temperature)), where `most` may be -inf: of nothing but such logits it is 0."""
    reference = tl.where(most == -float("inf"), 0.0, most)
    return tl.sum(tl.exp((x - reference) / temperature), 0)


@triton.jit
def chunk_sums(
    logits, changed, temperatures, maxima, sums, own_maxima, own_sums, firsts, V, CHUNKS,
    IS_CHANGED: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """`ReferenceSampling.normalise`, and the weights of its `draw`, of one chunk. Grid: (chunks, rows)."""
    chunk, row = tl.program_id(0), tl.program_id(1)
    n, at, begin = chunk * CHUNK + tl.arange(0, CHUNK), row * CHUNKS + chunk, row.to(tl.int64) * V
    x = tl.load(logits + begin + n, mask=n < V, other=-float("inf"))
    most = tl.max(x, 0)
    tl.store(maxima + at, most)
    tl.store(sums + at, weight_sum(x, most, 1.0))
    if IS_CHANGED:
        x = tl.load(changed + begin + n, mask=n < V, other=-float("inf"))
        most = tl.max(x, 0)
    tl.store(own_maxima + at, most)
    tl.store(own_sums + at, weight_sum(x, most, tl.load(temperatures + row).to(tl.float32)))
    tl.store(firsts + at, tl.min(tl.where((x == most) & (n < V), n, V - 1), 0))


def sum_chunks(logits: Tensor, changed: Tensor | None, requests: Tensor, buffers: DrawBuffers) -> Launch:
    """Of logits (B, V) at temperature 1, and of what tokens are chosen from (themselves where `changed` is None).

    Raises ValueError for tensors of another form than the buffers'.
    """
    expect_requests(logits, changed, requests, buffers)
    tensors = (logits, logits if changed is None else changed, requests[TEMPERATURE], buffers.maxima, buffers.sums)
    results = (buffers.own_maxima, buffers.own_sums, buffers.firsts)
    options = {"IS_CHANGED": changed is not None, "CHUNK": buffers.chunk, "num_warps": 4}
    grid = (buffers.chunks, len(logits))
    return Launch(chunk_sums, grid, (*tensors, *results, buffers.vocabulary, buffers.chunks), options)
