"""Numbers are stored as torch rounds them."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

import triton
import triton.language as tl

from quant.int8 import nearest_int8
from quant.kernels.triton.launch import Launch, run_all
from tests.gpu.triton.layer_parts import random
from tests.gpu.triton.place import PLACE
from zaya_core.kernels.triton import stored


@triton.jit
def store_rows(rows, codes, scales, bits, K: tl.constexpr):
    """Grid: rows."""
    row = tl.program_id(0)
    k = tl.arange(0, K)
    x = tl.load(rows + row * K + k)
    code, scale = stored.nearest_int8(x)
    tl.store(codes + row * K + k, code)
    tl.store(scales + row, scale)
    stored.store_float(bits + row * K + k, x, k < K)


def awkward_rows():
    """Halves between two codes, rows of nothing and of nearly nothing, large and small ones."""
    halves = torch.arange(-127.0, 127.0).add(0.5).view(2, 127)
    halves = torch.cat([halves, torch.full((2, 1), 127.0)], dim=1)
    scaled = random(6, 128) * torch.tensor([1.0, 1e-3, 1e4, 1e-20, 1e-31, 0.0])[:, None]
    return torch.cat([halves, 2 * halves, scaled]).to(PLACE)


def test_rows_are_rounded_as_the_reference_rounds_them():
    rows = awkward_rows()
    codes, scales, bits = torch.empty_like(rows, dtype=torch.int8), torch.empty_like(rows[:, 0]), rows.bfloat16()
    bits.zero_()
    run_all([Launch(store_rows, (len(rows),), (rows, codes, scales, stored.writable(bits)), {"K": 128})], PLACE)
    expected = nearest_int8(rows.cpu())
    assert torch.equal(codes.cpu(), expected[0])
    assert torch.equal(scales.cpu(), expected[1])
    assert torch.equal(bits.cpu(), rows.cpu().bfloat16())


@pytest.mark.parametrize("bits", [0x7FFFFFFF, 0x7FC00000, -1, -0x400000])
def test_what_is_no_number_stays_none_in_bfloat16(bits):
    """The first is what NVIDIA's cards compute."""
    rows = torch.full((1, 16), bits, dtype=torch.int32).view(torch.float32).to(PLACE)
    codes, scales, kept = torch.empty_like(rows, dtype=torch.int8), torch.empty_like(rows[:, 0]), rows.bfloat16()
    kept.zero_()
    run_all([Launch(store_rows, (1,), (rows, codes, scales, stored.writable(kept)), {"K": 16})], PLACE)
    assert kept.isnan().all() and scales.isnan().all()


def test_numbers_that_bfloat16_holds_are_kept_in_it_and_others_are_not():
    exact = random(3, 4).bfloat16().float()
    assert stored.narrowest(exact.t()).dtype == torch.bfloat16 and stored.narrowest(exact.t()).is_contiguous()
    assert stored.narrowest(random(3, 4)).dtype == torch.float32
