"""Bytes: what is packed comes back exactly, where the layout says it lies."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.formats import stored_tensors
from quant.int4 import Int4Matrix, quantize_int4
from quant.int8 import Int8Matrix, quantize_int8, round_int8
from quant.rounding import round_plain, round_searched
from quant.tiles import (
    int4_rows,
    int8_rows,
    pack_int4,
    pack_int4_scales,
    pack_int8,
    padded_rows,
    unpack_int4,
    unpack_int8,
)

SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 4).map(lambda groups: 64 * groups))


def random_codes(shape, lowest, highest, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(lowest, highest + 1, shape, generator=generator).to(torch.int8)


@settings(max_examples=30, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_int4_codes_come_back_and_padding_is_zero(shape, seed):
    codes = random_codes(shape, -8, 7, seed)
    back = unpack_int4(pack_int4(codes))
    assert back.shape == (padded_rows(shape[0]), shape[1])
    assert torch.equal(back[: shape[0]], codes)
    assert not back[shape[0] :].any()


@settings(max_examples=30, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_int8_codes_come_back_and_padding_is_zero(shape, seed):
    codes = random_codes(shape, -127, 127, seed)
    back = unpack_int8(pack_int8(codes))
    assert torch.equal(back[: shape[0]], codes)
    assert not back[shape[0] :].any()


def test_every_int4_weight_lies_where_the_layout_says():
    codes = random_codes((48, 192), -8, 7, 1)
    tiles = pack_int4(codes)
    for t, g, c, r, i in torch.cartesian_prod(*map(torch.arange, (3, 3, 8, 16, 4))).tolist():
        byte = int(tiles[t, g, c, r, i])
        assert (byte & 15) - 8 == codes[16 * t + r, 64 * g + 8 * c + i]
        assert (byte >> 4) - 8 == codes[16 * t + r, 64 * g + 8 * c + 4 + i]


def test_every_int8_weight_lies_where_the_layout_says():
    codes = random_codes((32, 64), -127, 127, 2)
    tiles = pack_int8(codes)
    for t, k, r in torch.cartesian_prod(*map(torch.arange, (2, 64, 16))).tolist():
        assert tiles[t, k // 4, r, k % 4] == codes[16 * t + r, k]


def test_int4_scales_lie_by_group():
    scales = torch.randn(20, 3).half()
    tiles = pack_int4_scales(scales)
    assert tiles[1, 2, 3] == scales[19, 2]
    assert torch.equal(tiles.transpose(1, 2).flatten(0, 1)[:20], scales)


def test_gathered_rows_are_the_rows():
    codes4, codes8 = random_codes((50, 128), -8, 7, 3), random_codes((50, 128), -127, 127, 3)
    index = torch.tensor([49, 0, 17, 17, 16])
    assert torch.equal(int4_rows(pack_int4(codes4), index), codes4[index])
    assert torch.equal(int8_rows(pack_int8(codes8), index), codes8[index])


@pytest.mark.parametrize("n", [1, 15, 16, 17, 700])
def test_chunks_do_not_show(n):
    """Matrices are rounded and packed some rows at a time."""
    weight = torch.randn(n, 2048)
    rounded = round_searched(weight)
    matrix = Int4Matrix(quantize_int4(weight), (n, 2048))
    assert torch.equal(matrix.dequantize(), rounded.dequantize())
    codes, scales = round_int8(weight)
    assert torch.equal(Int8Matrix(quantize_int8(weight), (n, 2048)).dequantize(), codes.float() * scales[:, None])


@pytest.mark.parametrize("kind", ["int4", "int8"])
def test_what_is_made_has_the_stored_shapes(kind):
    made = {"int4": quantize_int4, "int8": quantize_int8}[kind](torch.randn(33, 128))
    stored = stored_tensors(kind, (33, 128))
    assert {suffix: (one.shape, one.dtypes[0]) for suffix, one in stored.items()} == {
        suffix: (tuple(tensor.shape), tensor.dtype) for suffix, tensor in made.items()
    }


@pytest.mark.parametrize("kind", ["int4", "int8", "nf4", "fp8", "mxfp4"])
@pytest.mark.parametrize("k", [1, 63, 65, 100, 4095])
def test_a_width_that_is_no_multiple_of_the_group_is_refused(kind, k):
    with pytest.raises(ValueError, match=f"groups of 64; {k} is not a multiple"):
        stored_tensors(kind, (16, k))


def test_a_stack_has_its_experts_in_front():
    one, stack = stored_tensors("int4", (32, 128)), stored_tensors("int4", (5, 32, 128))
    assert {suffix: (5, *tensor.shape) for suffix, tensor in one.items()} == {s: t.shape for s, t in stack.items()}


def test_plain_rounding_is_absmax_by_seven():
    weight = torch.randn(3, 128)
    groups = weight.view(3, 2, 64)
    rounded = round_plain(weight)
    scales = (groups.abs().amax(-1) / 7).half()
    assert torch.equal(rounded.scales, scales)
    assert torch.equal(
        rounded.codes.view(3, 2, 64), (groups / scales.float()[..., None]).round().clamp(-8, 7).to(torch.int8)
    )
