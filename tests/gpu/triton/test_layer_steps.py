"""Each step of a layer on a card against the reference in float32, at awkward sizes and beside rows that are none."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("triton")

from quant.dense import DenseMatrix
from quant.int8 import nearest_int8
from quant.kernels.triton.launch import run_all
from tests.gpu.triton.layer_parts import (
    cache_of,
    cca_of,
    norm_of,
    placed,
    random,
    router_of,
    scaling_of,
    tables_of,
    whole,
)
from tests.gpu.triton.packed import matrix_of, on_card
from tests.gpu.triton.place import PLACE, assert_near
from tests.gpu.triton.sanitizer import sanitized
from zaya_core.cache.arrangement import BLOCK
from zaya_core.config.rope import RopeParameters
from zaya_core.kernels.triton.angles import angles
from zaya_core.kernels.triton.cca import CCAState, CCAWeights, cca
from zaya_core.kernels.triton.embedding import embedding
from zaya_core.kernels.triton.merge_norm import first_norm, merge_norm
from zaya_core.kernels.triton.router import RouterWeights, router_choice, router_down
from zaya_core.model.rope import RotaryEmbedding, rotate
from zaya_core.model.weights import Embedding

EXACT = 2e-5  # these steps multiply in float32, on a card too


def empty(*shape, dtype=torch.float32):
    """Memory with anything in it."""
    filled = torch.full(shape, float("nan") if dtype.is_floating_point else 99)
    return filled.to(dtype).to(PLACE)


def run(*launches):
    with sanitized():
        run_all(launches, PLACE)


@pytest.mark.parametrize("format", ["int4", "int8", "bf16", "float32"])
@pytest.mark.parametrize("width", [64, 320])
def test_embedding(format, width):
    matrix = matrix_of(format, 37, width, seed=1)
    table, (bias, scale) = on_card(matrix), placed(*random(2, width, seed=2))
    positions, residual = [4, -1, 0, 7, 9], empty(5, width)
    run(embedding(whole([36, 1 << 30, 0, 17, 15]), whole(positions), table, bias, scale, residual))
    matrix = matrix.dequantize() if format in ("int4", "int8") else matrix.weight.float()
    expected = Embedding(DenseMatrix(matrix.to(PLACE)), bias, scale)(torch.tensor([[36, 0, 0, 17, 15]]).to(PLACE))[0]
    expected[1] = 0
    assert_near(residual, expected, 1e-6)


@pytest.mark.parametrize(("rows", "width"), [(1, 100), (3, 64), (16, 33)])
def test_merge_and_norm(rows, width):
    branch, residual = placed(*random(2, rows, width))
    scaling, norm, merged, normed = scaling_of(width), norm_of(width), empty(rows, width), empty(rows, width)
    run(merge_norm(branch, residual, scaling, norm, merged, normed))
    assert_near(merged, expected := scaling(branch, residual), EXACT)
    assert_near(normed, norm(expected), EXACT)
    run(first_norm(residual, norm, normed))
    assert_near(normed, norm(residual), EXACT)


@pytest.mark.parametrize(("head_dim", "share", "base"), [(128, 0.5, 5e6), (16, 1.0, 100.0), (64, 0.375, 1e4)])
def test_angles_of_far_positions(head_dim, share, base):
    positions = [0, 1, 255, 256, 4_097, 65_535, 131_071, -1]
    rotary = RotaryEmbedding(RopeParameters(base, share), head_dim, PLACE)
    cos, sin = (empty(len(positions), len(rotary.frequencies)) for _ in range(2))
    run(angles(whole(positions), rotary.frequencies, cos, sin))
    expected = rotary(torch.tensor([positions[:-1]]).to(PLACE))
    for found, wanted in zip((cos, sin), expected, strict=True):
        assert_near(found[:-1], wanted[0, :, 0], 3e-7)
        assert found.isfinite().all()


class Pass:
    """One token of each row by the reference: what `CCAProjection` asks of a `CacheStep`."""

    def __init__(self, tail, delayed):
        self.tail, self.old = tail, delayed

    def conv_tail(self, _):
        return self.tail

    def delayed(self, _):
        return self.old

    def keep_state(self, columns, delayed):
        self.new = columns[:, 1:], delayed[:, -1]


SIZES = [
    (4, 2, 16, 0.5),
    (8, 2, 32, 0.5),
    (4, 1, 64, 1.0),
    (6, 2, 16, 0.25),
    pytest.param(8, 2, 128, 0.5, marks=pytest.mark.long),  # ZAYA1-8B's
]
POSITIONS = [255, -1, 0, 256, 511]


def one_token(heads, groups, head_dim, share, kv, dtype, positions=POSITIONS):
    """By the kernel and by the reference, by name; `kept` is all memory that the kernel may write, before and after."""
    projection, qk_norm = cca_of(heads, groups, head_dim, width=24)
    rows, channels, half = len(positions), (heads + groups) * head_dim, groups * head_dim // 2
    slots = 2 * rows + 1
    tail, delayed = (random(slots, *shape, seed=8).to(dtype).to(PLACE) for shape in ((2, channels), (half,)))
    order = torch.randperm(slots, generator=torch.Generator().manual_seed(2)).tolist()
    reads, writes = order[:rows], order[rows : 2 * rows]
    table, blocks = tables_of(rows, 2)
    cache, _, _ = cache_of(blocks, groups, head_dim, kv)
    rotary = RotaryEmbedding(RopeParameters(1e4, share), head_dim, PLACE)
    cos, sin = rotary(torch.tensor(positions)[:, None].clamp(min=0).to(PLACE))
    x = random(rows, 1, 24, seed=7).to(PLACE)
    kept = {name: one for name, one in (*vars(cache).items(), ("tail", tail), ("delayed", delayed)) if one is not None}
    before = {name: one.clone() for name, one in kept.items()}

    step = Pass(tail[reads].float(), delayed[reads].float())
    qk, value = projection(x, step, 0)
    qk = rotate(qk_norm(qk), cos, sin)[:, 0]
    qkv = torch.cat([matrix.matmul(x)[:, 0] for matrix in projection.matrices], dim=1)
    query = empty(rows, heads * head_dim)
    launch = cca(
        qkv,
        CCAWeights.of(projection.convolutions, qk_norm),
        (cos[:, 0, 0].contiguous(), sin[:, 0, 0].contiguous()),
        whole(positions),
        table,
        CCAState(
            tail,
            delayed,
            whole([at if p >= 0 else 1 << 30 for at, p in zip(reads, positions, strict=True)]),
            whole([at if p >= 0 else 1 << 30 for at, p in zip(writes, positions, strict=True)]),
        ),
        cache,
        query,
    )
    run(launch)
    expected = {"query": qk[:, :heads].flatten(1), "keys": qk[:, heads:], "values": value[:, 0]}
    return query, expected, step.new, (reads, writes, table.tolist()), before, kept


@pytest.mark.parametrize("kv", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize(("heads", "groups", "head_dim", "share"), SIZES)
def test_cca(heads, groups, head_dim, share, kv):
    dtype = torch.bfloat16 if kv == "bfloat16" else torch.float32
    query, expected, new, (_, writes, table), before, kept = one_token(heads, groups, head_dim, share, kv, dtype)
    rows = [row for row, position in enumerate(POSITIONS) if position >= 0]
    assert_near(query[rows], expected["query"][rows], EXACT)
    assert query[1].tolist() == [0.0] * query.shape[1]
    for name, numbers in zip(("tail", "delayed"), new, strict=True):
        before[name][[writes[row] for row in rows]] = numbers[rows].to(dtype)
        assert_near(kept[name], before[name], EXACT if dtype == torch.float32 else 0.0)
    for row in rows:
        place = table[row][POSITIONS[row] // BLOCK], slice(None), POSITIONS[row] % BLOCK
        for name in ("keys", "values"):
            numbers = expected[name][row]
            if kv == "int8":
                _, scales = nearest_int8(numbers)
                assert_near(kept[f"{name[:-1]}_scales"][place], scales, EXACT)
                found = kept[name][place] * kept[f"{name[:-1]}_scales"][place][..., None]
                assert (found - numbers).abs().max() <= 0.51 * scales.max()
                before[f"{name[:-1]}_scales"][place] = kept[f"{name[:-1]}_scales"][place]
            else:
                assert_near(kept[name][place], numbers.to(kept[name].dtype), EXACT if kv == "float32" else 5e-3)
            before[name][place] = kept[name][place]
    for name, one in kept.items():
        assert name in ("tail", "delayed") or torch.equal(one, before[name]), f"{name} of another row or position"


@pytest.mark.parametrize(
    ("rows", "width", "hidden", "experts"),
    [
        (1, 100, 20, 4),
        (3, 48, 12, 1),
        (16, 33, 40, 24),
        pytest.param(2, 2048, 256, 16, marks=pytest.mark.long),  # ZAYA1-8B's
    ],
)
@pytest.mark.parametrize("is_first", [False, True], ids=["later", "first layer"])
def test_router(rows, width, hidden, experts, is_first):
    biases = random(experts + 1, seed=1) * 0.2
    router = router_of(width, hidden, biases.tolist(), is_first)
    branch, residual = placed(*random(2, rows, width))
    before = None if is_first else random(rows, hidden, seed=5).to(PLACE)
    scaling, norm, weights = scaling_of(width), norm_of(width), RouterWeights.of(router)
    merged, normed, own, state = empty(rows, width), empty(rows, width), empty(rows, hidden), empty(rows, hidden)
    choice, weight, scratch = empty(rows, dtype=torch.int32), empty(rows), empty(rows, 3, hidden)
    run(
        router_down(branch, residual, scaling, norm, weights, merged, normed, own),
        router_choice(own, before, weights, whole([5] * rows), state, scratch, choice, weight),
    )
    expected = router(norm(scaling(branch, residual)), before)
    assert_near(merged, scaling(branch, residual), EXACT)
    assert_near(normed, norm(merged), EXACT)
    assert_near(state, expected[2], EXACT)
    assert choice.tolist() == expected[0].tolist()
    assert_near(weight, expected[1], EXACT)


def chosen(router, own, positions):
    """(choice, weight) without anything before."""
    (rows, hidden), weights = own.shape, RouterWeights.of(router)
    buffers = empty(rows, hidden), empty(rows, 3, hidden), empty(rows, dtype=torch.int32), empty(rows)
    run(router_choice(own, None, weights, whole(positions), *buffers))
    return buffers[2].tolist(), buffers[3].tolist()


@pytest.mark.parametrize("experts", [1, 24])
def test_of_equals_the_first_is_chosen_and_a_row_that_is_none_skips(experts):
    router = router_of(16, 12, [0.25] * (experts + 1), is_first=True)
    router.out_proj = torch.zeros_like(router.out_proj)
    choice, weight = chosen(router, random(3, 12).to(PLACE), [9, -1, 0])
    assert choice == [0, experts, 0]
    assert weight == [pytest.approx(1 / (experts + 1)), 0.0, pytest.approx(1 / (experts + 1))]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_number_skips(number):
    router = router_of(16, 12, [0.0] * 6, is_first=True)
    own = random(2, 12)
    own[0] = number
    (choice, other), (weight, _) = chosen(router, own.to(PLACE), [3, 4])
    assert choice == 5 and math.isnan(weight) and other < 5, "nobody takes it for an answer, and no expert is read"


def test_weights_that_bfloat16_holds_are_read_as_such():
    router = router_of(16, 12, [0.0] * 4)
    assert RouterWeights.of(router).fc1.dtype == torch.float32
    router.fc1 = router.fc1[0].bfloat16().float(), router.fc1[1]
    narrow = RouterWeights.of(router).fc1
    assert narrow.dtype == torch.bfloat16 and torch.equal(narrow.float(), router.fc1[0].t())
