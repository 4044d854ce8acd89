"""Attention over the paged cache on a card against the reference in float32: of one token a row, and of a prompt's."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("triton")

from quant.kernels.triton.choice import INTERPRETER
from quant.kernels.triton.launch import Launch, run_all
from tests.gpu.triton.layer_parts import cache_of, random, tables_of, whole
from tests.gpu.triton.place import EXACT, PLACE, assert_near
from tests.gpu.triton.sanitizer import sanitized
from zaya_core.cache.arrangement import BLOCK
from zaya_core.kernels.triton.attention_step import (
    AttentionShape,
    Parts,
    attention_shape,
    attention_step,
    combine_splits,
)
from zaya_core.kernels.triton.prompt_attention import PromptShape, prompt_attention, prompt_launch

KV = ["float32", "bfloat16", "int8"]


def of_row(stored, table, length):
    """A row's positions from its blocks: (blocks, G, BLOCK, K) -> (G, S, K)."""
    return torch.cat([stored[block] for block in table], dim=1)[:, :length]


def expected_of(query, keys, values, table, position, window):
    """softmax(q k^T / sqrt(K)) v of one token. query: (H, K) -> (H * K)."""
    begin = 0 if window is None else max(0, position + 1 - window)
    k, v = (of_row(one, table, position + 1)[:, begin:] for one in (keys, values))
    grouped = query.unflatten(0, (keys.shape[1], -1))
    scores = grouped @ k.transpose(1, 2) * query.shape[-1] ** -0.5
    return (scores.softmax(-1) @ v).flatten()


def spoil(cache, table, positions):
    """What lies behind a row's end, or in blocks of nobody, is no number."""
    if cache.is_int8:
        return
    used = {
        block for row, position in zip(table.tolist(), positions, strict=True) for block in row[: position // BLOCK + 1]
    }
    for tensor in (cache.keys, cache.values):
        for block in set(range(len(tensor))) - used:
            tensor[block] = math.nan
        for row, position in zip(table.tolist(), positions, strict=True):
            if position >= 0:
                tensor[row[position // BLOCK], :, position % BLOCK + 1 :] = math.nan


def step_of(positions, heads, groups, head_dim, kv, window, shape):
    """By the kernels, and by the reference."""
    rows = len(positions)
    table, blocks = tables_of(rows, max(positions) // BLOCK + 1)
    cache, keys, values = cache_of(blocks, groups, head_dim, kv)
    spoil(cache, table, positions)
    query = random(rows, heads * head_dim, seed=3).to(PLACE)
    out = torch.full_like(query, math.nan)
    parts = Parts.empty(rows, heads, head_dim, shape.splits, PLACE)
    for one in vars(parts).values():
        one.fill_(math.nan)
    with sanitized():
        run_all(attention_step(query, cache, whole(positions), table, window, parts, out, shape), PLACE)
    expected = torch.zeros_like(query)
    for row, position in enumerate(positions):
        if position >= 0:
            one = query[row].unflatten(0, (heads, head_dim))
            expected[row] = expected_of(one, keys, values, table[row].tolist(), position, window)
    return out, expected


@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize(
    ("positions", "heads", "groups", "head_dim", "window", "shape"),
    [
        ([254, -1, 255, 0], 4, 2, 16, None, AttentionShape(4, 64, 4)),
        ([256, 257, 3], 8, 2, 32, 20, AttentionShape(8, 16, 4)),
        ([300], 4, 1, 64, 256, AttentionShape(4, 64, 4)),
        ([0, -1, 17], 8, 1, 16, 1, AttentionShape(4, 32, 4)),
        pytest.param([1030, 511], 8, 2, 128, 700, AttentionShape(64, 16, 4), marks=pytest.mark.long),
    ],
    ids=["ends of a block", "window", "one row", "nearly nothing", "as ZAYA1-8B"],
)
def test_one_token(positions, heads, groups, head_dim, kv, window, shape):
    out, expected = step_of(positions, heads, groups, head_dim, kv, window, shape)
    assert_near(out, expected, EXACT)
    assert out[[row for row, position in enumerate(positions) if position < 0]].abs().sum() == 0


def test_one_token_of_sixteen_rows():
    positions = [int(at) for at in torch.linspace(-1, 260, 16)]
    out, expected = step_of(positions, 4, 2, 16, "float32", None, AttentionShape(2, 64, 4))
    assert_near(out, expected, EXACT)


def test_what_is_no_number_stays_none():
    """Cards leave NaN out of a maximum, so that only sums of weights tell it."""
    parts = Parts.empty(1, 2, 16, 4, PLACE)
    parts.values.fill_(1.0), parts.maxima.fill_(-1e30), parts.sums.fill_(0.0)
    parts.maxima[:, :, 1], parts.sums[0, :, 1] = 2.0, torch.tensor([1.0, math.nan])
    out = torch.zeros(1, 32, device=PLACE)
    sizes = {"H": 2, "K": 16, "SPLITS": 4}
    run_all([Launch(combine_splits, (2, 1), (parts.values, parts.maxima, parts.sums, out), sizes)], PLACE)
    assert (out[0, :16] == 1).all() and out[0, 16:].isnan().all()


@pytest.mark.parametrize("at", [0, 63, 64, 200])
def test_one_key_that_outweighs_all_others_is_found_in_any_split(at):
    """A split's sums count by how far its largest score is behind that of all."""
    table, blocks = tables_of(1, 1)
    cache, keys, values = cache_of(blocks, 1, 16, "float32")
    query = random(1, 64, seed=3).to(PLACE)
    block = table.tolist()[0][0]
    keys[block, 0, at] = cache.keys[block, 0, at] = 40 * query[0, :16]
    out, parts = torch.empty_like(query), Parts.empty(1, 4, 16, 4, PLACE)
    with sanitized():
        run_all(attention_step(query, cache, whole([240]), table, None, parts, out, AttentionShape(4, 64, 4)), PLACE)
    assert_near(out[0], expected_of(query[0].view(4, 16), keys, values, [block], 240, None), EXACT)


def test_splits_and_steps_by_architecture():
    assert attention_shape(INTERPRETER, 3, torch.int8).step == 64
    for architecture in ("sm_86", "sm_120", "gfx1100", "gfx1201", "gfx942"):
        shapes = [attention_shape(architecture, rows, torch.bfloat16) for rows in (1, 2, 4, 8, 16)]
        assert [shape.splits for shape in shapes] == [64, 32, 16, 8, 4]
        assert {shape.step for shape in shapes} == {16 if architecture.startswith("gfx1") else 64}
        assert attention_shape(architecture, 5, torch.float32) == AttentionShape(8, 16, 8)
    assert attention_shape("gfx942", 1, torch.int8) == AttentionShape(64, 32, 4)


def chunk_of(lengths, past, heads, groups, head_dim, kv, window, shape, dtype=torch.float32, columns=None):
    """A chunk's attention by the kernel, and by the reference."""
    rows, columns = len(lengths), columns or max(lengths)
    ends = [start + new for start, new in zip(past, lengths, strict=True)]
    table, blocks = tables_of(rows, max(ends) // BLOCK + 1)
    cache, keys, values = cache_of(blocks, groups, head_dim, kv)
    spoil(cache, table, [end - 1 for end in ends])
    query = random(rows, columns, heads, head_dim, seed=3).to(dtype).to(PLACE)
    out = torch.full_like(query, math.nan)
    with sanitized():
        launch = prompt_launch(query, cache, table, whole(ends), whole(lengths), window, out, shape)
        run_all([launch], PLACE)
    expected = torch.zeros(rows, columns, heads * head_dim)
    for row, new in enumerate(lengths):
        for t in range(new):
            one = query[row, t].float()
            expected[row, t] = expected_of(one, keys, values, table[row].tolist(), past[row] + t, window)
    return out.flatten(2), expected


@pytest.mark.parametrize("kv", KV)
@pytest.mark.parametrize(
    ("lengths", "past", "heads", "groups", "head_dim", "window", "shape"),
    [
        ([9], [250], 4, 2, 16, None, PromptShape(16, 64, 4)),
        ([7, 0, 3], [254, 9, 0], 6, 2, 16, 5, PromptShape(16, 16, 4)),
        ([40], [0], 8, 1, 32, None, PromptShape(32, 32, 4)),
        ([3, 21], [255, 130], 4, 1, 64, 200, PromptShape(32, 64, 4)),
        pytest.param([70, 33], [480, 0], 8, 2, 128, 300, PromptShape(64, 32, 4), marks=pytest.mark.long),
    ],
    ids=["end of a block", "rows padded, a small window", "a whole prompt", "window", "as ZAYA1-8B"],
)
def test_a_chunk(lengths, past, heads, groups, head_dim, kv, window, shape):
    out, expected = chunk_of(lengths, past, heads, groups, head_dim, kv, window, shape)
    assert_near(out, expected, EXACT)
    for row, length in enumerate(lengths):
        assert out[row, length:].abs().sum() == 0


def test_a_chunk_in_bfloat16_is_rounded_to_the_nearest():
    out, expected = chunk_of([20], [3], 4, 2, 16, "bfloat16", None, PromptShape(32, 64, 4), torch.bfloat16)
    assert out.dtype == torch.bfloat16
    assert_near(out, expected, 2**-8)
    exact = (out == expected.to(out.dtype).to(PLACE)).float().mean()
    assert exact > (0.98 if PLACE.type == "cpu" else 0.5)


def test_a_chunk_by_the_shape_of_this_device_with_tables_as_a_pass_has_them():
    table, blocks = tables_of(2, 1)
    cache, keys, values = cache_of(blocks, 2, 16, "float32")
    query = random(2, 3, 4, 16).to(PLACE)
    lengths, ends = (torch.tensor(one, device=PLACE) for one in ([3, 1], [8, 1]))
    out = prompt_attention(query, cache, table.long(), ends, lengths, None)
    expected = expected_of(query[0, 2], keys, values, table[0].tolist(), 7, None)
    assert_near(out[0, 2].flatten(), expected, EXACT)
    assert out[1, 1:].abs().sum() == 0


@pytest.mark.parametrize(
    "wrong", ["a long query", "positions in int64", "a table of one row", "three splits", "no window", "odd heads"]
)
def test_wrong_arguments_reach_no_kernel(wrong):
    table, blocks = tables_of(2, 1)
    cache, _, _ = cache_of(blocks, 2, 16, "float32")
    query, positions, window = torch.zeros(2, 64, device=PLACE), whole([1, 2]), None
    splits = 4
    if wrong == "a long query":
        query = torch.zeros(2, 72, device=PLACE)
    elif wrong == "positions in int64":
        positions = positions.long()
    elif wrong == "a table of one row":
        table = table[:1]
    elif wrong == "three splits":
        splits = 3
    elif wrong == "no window":
        window = 0
    else:
        query = torch.zeros(2, 48, device=PLACE)
    long = query.view(2, 1, -1, 16) if query.shape[1] % 16 == 0 else query.view(2, 1, 3, -1)
    if wrong not in ("positions in int64", "three splits"):
        with pytest.raises(ValueError, match=r"\d"):
            prompt_attention(long, cache, table, whole([2, 3]), whole([1, 1]), window)
    parts = Parts.empty(2, query.shape[1] // 16, 16, splits, PLACE)
    with pytest.raises(ValueError, match=r"\d"):
        attention_step(query, cache, positions, table, window, parts, query.clone(), AttentionShape(splits, 64, 4))
