"""A token drawn without sorting, by the definition in `zaya_core/sampling/draw.py`, as `ReferenceSampling.draw` does.

A token is proposed in proportion to the weights of the candidates, at first of all. If a cut refuses it, what sorts
before it (and min-p keeps) is the next, smaller list of candidates. Sums over these tell both whether it is refused and
where the next proposal lies, so that a round is two launches. Weights are float32, relative to the likeliest token's;
only sums over chunks and within the one chunk that a token comes from are float64, which is slow on consumer cards.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton.launch import Launch
from zaya_core.kernels.triton.sampling.buffers import ANSWER, ID, IS_DONE, LOGIT, NORMALISER, WHOLE, DrawBuffers
from zaya_core.kernels.triton.sampling.requests import (
    MIN_P,
    SAMPLED,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    UNIFORM,
    WANTED,
    expect_requests,
)

_ID, _LOGIT, _NORMALISER = tl.constexpr(ID), tl.constexpr(LOGIT), tl.constexpr(NORMALISER)
_WHOLE, _IS_DONE, _ANSWER = tl.constexpr(WHOLE), tl.constexpr(IS_DONE), tl.constexpr(ANSWER)
_SAMPLED = tl.constexpr(SAMPLED)


@triton.jit
def sorts_before(x, n, limit, limit_id):
    """Whether tokens n with logits x stand before another one: a larger logit, or an equal one and a smaller id."""
    return (x > limit) | ((x == limit) & (n < limit_id))


@triton.jit
def weight(x, top, temperature):
    """p / max(p). The difference first: a small temperature cannot overflow it."""
    return tl.exp((x - top) / temperature)


@triton.jit
def propose(
    own, sums, uniform, top, temperature, min_p, limit, limit_id, likeliest, V,
    CHUNK: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """`_draw_in_proportion` of `ReferenceSampling`: the id of one of the candidates.

    own: where the row's logits begin; sums (PADDED) float64: of the candidates' weights in each chunk. Where rounding
    takes the position past the end, or a chunk has no weight after all, it is the last one, or the likeliest.
    """
    c = tl.arange(0, PADDED)
    ends = tl.cumsum(sums, 0)
    position = uniform * tl.max(ends, 0)
    last = tl.max(tl.where(sums > 0, c, 0), 0)
    chunk = tl.min(tl.where((sums > 0) & (ends > position), c, last), 0)
    position -= tl.sum(tl.where(c == chunk - 1, ends, 0.0), 0)
    n = chunk * CHUNK + tl.arange(0, CHUNK)
    x = tl.load(own + n, mask=n < V, other=-float("inf"))
    w = weight(x, top, temperature)
    w = tl.where(sorts_before(x, n, limit, limit_id) & (w >= min_p), w, 0.0)
    last = tl.max(tl.where(w > 0, n, -1), 0)
    found = tl.min(tl.where((w > 0) & (tl.cumsum(w.to(tl.float64), 0) > position), n, last), 0)
    return tl.where(found < 0, likeliest, found)


@triton.jit
def begin_draw(
    logits, changed, temperatures, wanted, uniforms, maxima, sums, own_maxima, own_sums, firsts, tops, likeliest,
    picked, answers, V, CHUNKS, CHUNK: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """Combine the chunks; answer rows that draw nothing, and propose a first token for the others. Grid: rows."""
    row = tl.program_id(0)
    begin = row.to(tl.int64) * V
    c = tl.arange(0, PADDED)
    at, inside = row * CHUNKS + c, c < CHUNKS
    most = tl.load(maxima + at, mask=inside, other=-float("inf"))
    top = tl.max(most, 0)
    scaled = tl.load(sums + at, mask=inside, other=0.0) * tl.exp(most - top)
    normaliser = top.to(tl.float64) + tl.log(tl.sum(scaled.to(tl.float64), 0))

    temperature = tl.load(temperatures + row).to(tl.float32)
    most = tl.load(own_maxima + at, mask=inside, other=-float("inf"))
    top = tl.max(most, 0)
    own_weights = tl.load(own_sums + at, mask=inside, other=0.0).to(tl.float64) * weight(most, top, temperature)
    whole = tl.sum(own_weights, 0)
    chunk = tl.min(tl.where((most == top) & inside, c, CHUNKS - 1), 0)
    first = tl.load(firsts + row * CHUNKS + chunk)

    asked = tl.load(wanted + row).to(tl.int32)
    id_ = tl.where(asked >= 0, asked, first)
    is_drawn = (asked == _SAMPLED) & (whole < float("inf"))
    tl.store(tops + row, top)
    tl.store(likeliest + row, first)
    answer = answers + row * _ANSWER
    tl.store(answer + _ID, id_.to(tl.float64))
    tl.store(answer + _LOGIT, tl.load(logits + begin + id_).to(tl.float64))
    tl.store(answer + _NORMALISER, normaliser)
    tl.store(answer + _WHOLE, whole)
    if is_drawn:
        uniform = tl.load(uniforms + row)
        limit = -float("inf")
        token = propose(changed + begin, own_weights, uniform, top, temperature, 0.0, limit, V, first, V, CHUNK, PADDED)
        tl.store(picked + row, token)
        tl.store(answer + _IS_DONE, 0.0)
    else:
        tl.store(picked + row, -1)
        tl.store(answer + _IS_DONE, 1.0)


@triton.jit
def sum_before(
    changed, temperatures, min_ps, tops, picked, masses, counts, V, CHUNKS, CHUNK: tl.constexpr
):  # fmt: skip
    """`_before` of `ReferenceSampling`: weights and number of what sorts before the token. Grid: (chunks, rows)."""
    chunk, row = tl.program_id(0), tl.program_id(1)
    token = tl.load(picked + row)
    if token >= 0:
        begin = row.to(tl.int64) * V
        n = chunk * CHUNK + tl.arange(0, CHUNK)
        x = tl.load(changed + begin + n, mask=n < V, other=-float("inf"))
        w = weight(x, tl.load(tops + row), tl.load(temperatures + row).to(tl.float32))
        is_before = sorts_before(x, n, tl.load(changed + begin + token), token)
        is_before = is_before & (w >= tl.load(min_ps + row).to(tl.float32)) & (n < V)
        tl.store(masses + row * CHUNKS + chunk, tl.sum(tl.where(is_before, w, 0.0), 0))
        tl.store(counts + row * CHUNKS + chunk, tl.sum(is_before.to(tl.int32), 0))


@triton.jit
def judge(
    logits, changed, temperatures, top_ps, top_ks, min_ps, uniforms, masses, counts, tops, likeliest, picked, following,
    answers, V, CHUNKS, CHUNK: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """Keep the token as the row's answer, or propose another one from what sorts before it. Grid: rows."""
    row = tl.program_id(0)
    token = tl.load(picked + row)
    next_token = tl.full((), -1, tl.int32)
    if token >= 0:
        begin = row.to(tl.int64) * V
        c = tl.arange(0, PADDED)
        at, inside = row * CHUNKS + c, c < CHUNKS
        before = tl.load(masses + at, mask=inside, other=0.0).to(tl.float64)
        count = tl.sum(tl.load(counts + at, mask=inside, other=0), 0)
        top, temperature = tl.load(tops + row), tl.load(temperatures + row).to(tl.float32)
        min_p, limit = tl.load(min_ps + row).to(tl.float32), tl.load(changed + begin + token)
        answer = answers + row * _ANSWER
        most = tl.load(top_ps + row) * tl.load(answer + _WHOLE)
        in_top_p, in_top_k = tl.sum(before, 0) < most, count < tl.load(top_ks + row).to(tl.int32)
        if in_top_p & in_top_k & (weight(limit, top, temperature) >= min_p):
            tl.store(answer + _ID, token.to(tl.float64))
            tl.store(answer + _LOGIT, tl.load(logits + begin + token).to(tl.float64))
            tl.store(answer + _IS_DONE, 1.0)
        else:
            uniform, first = tl.load(uniforms + row), tl.load(likeliest + row)
            next_token = propose(
                changed + begin, before, uniform, top, temperature, min_p, limit, token, first, V, CHUNK, PADDED
            )
    tl.store(following + row, next_token)


def begin_drawing(logits: Tensor, changed: Tensor | None, requests: Tensor, buffers: DrawBuffers) -> Launch:
    """After `normalise.sum_chunks` of the same arguments. Raises ValueError as it does."""
    expect_requests(logits, changed, requests, buffers)
    tensors = (
        *(logits, logits if changed is None else changed, requests[TEMPERATURE], requests[WANTED], requests[UNIFORM]),
        *(buffers.maxima, buffers.sums, buffers.own_maxima, buffers.own_sums, buffers.firsts),
        *(buffers.tops, buffers.likeliest, buffers.picked[0], buffers.answers),
    )
    return Launch(begin_draw, (len(logits),), (*tensors, buffers.vocabulary, buffers.chunks), _options(buffers))


def draw_round(
    logits: Tensor, changed: Tensor | None, requests: Tensor, buffers: DrawBuffers, number: int
) -> tuple[Launch, Launch]:
    """Round `number`, from 0, after the one before. Raises ValueError as `begin_drawing`, and for another number."""
    expect_requests(logits, changed, requests, buffers)
    if not 0 <= number < buffers.rounds:
        raise ValueError(f"rounds are numbered from 0 to {buffers.rounds - 1}; this is {number}")
    changed = logits if changed is None else changed
    rows, sizes, picked = len(logits), (buffers.vocabulary, buffers.chunks), buffers.picked[number]
    sums = (buffers.masses, buffers.counts)
    before = (changed, requests[TEMPERATURE], requests[MIN_P], buffers.tops, picked, *sums, *sizes)
    cuts = (requests[TOP_P], requests[TOP_K], requests[MIN_P], requests[UNIFORM + number + 1])
    states = (buffers.tops, buffers.likeliest, picked, buffers.picked[number + 1], buffers.answers)
    judged = (logits, changed, requests[TEMPERATURE], *cuts, *sums, *states, *sizes)
    return (
        Launch(sum_before, (buffers.chunks, rows), before, {"CHUNK": buffers.chunk, "num_warps": 4}),
        Launch(judge, (rows,), judged, _options(buffers)),
    )


def _options(buffers: DrawBuffers) -> dict[str, int]:
    return {"CHUNK": buffers.chunk, "PADDED": buffers.padded, "num_warps": 4}
