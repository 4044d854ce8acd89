"""Keys, values and scales come back from their blocks as they were put there, whatever their places."""

from __future__ import annotations

import pytest
import torch

from zaya_core.cache.arrangement import BLOCK, HeadRows, Keys, Scales, Values

DTYPES = [torch.float32, torch.bfloat16, torch.int8]
BLOCKS, HEADS = 3, 2
SLOTS = torch.randperm(BLOCKS * BLOCK, generator=torch.Generator().manual_seed(2))[:300]


def put_and_read_back(arrangement, dtype):
    """Rows at some slots of blocks full of ones -> those rows, and all that is read."""
    storage = torch.ones(BLOCKS, *arrangement.block_shape, dtype=dtype)
    rows = torch.randint(-100, 100, (len(SLOTS), *arrangement.row_shape)).to(dtype)
    arrangement.write(storage, SLOTS // BLOCK, SLOTS % BLOCK, rows)
    return rows, arrangement.rows(storage).flatten(0, 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [4, 8, 48, 128])
@pytest.mark.parametrize("kind", [Keys, Values])
def test_what_is_put_at_a_slot_is_read_there_and_nowhere_else(kind, head_dim, dtype):
    rows, found = put_and_read_back(kind(HEADS, head_dim, dtype), dtype)
    assert torch.equal(found[SLOTS], rows)
    untouched = torch.ones(BLOCKS * BLOCK, dtype=torch.bool).index_fill(0, SLOTS, False)
    assert (found[untouched] == 1).all()


@pytest.mark.parametrize(
    ("arrangement", "dtype"), [(Scales(HEADS), torch.float32), (HeadRows(HEADS, 48), torch.bfloat16)]
)
def test_scales_and_rows_of_heads_likewise(arrangement, dtype):
    rows, found = put_and_read_back(arrangement, dtype)
    assert torch.equal(found[SLOTS], rows)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [Keys, Values])
def test_a_word_of_32_bits_holds_numbers_that_are_multiplied_one_after_the_other(kind, dtype):
    arrangement = kind(HEADS, 128, dtype)
    *_, lanes, each = arrangement.block_shape
    assert (lanes, each * dtype.itemsize) == (16, 4)
    storage = torch.zeros(1, *arrangement.block_shape, dtype=dtype)
    position, number = 37, 21
    rows = torch.zeros(1, HEADS, 128)
    rows[0, 1, number] = 5
    arrangement.write(storage, torch.tensor([0]), torch.tensor([position]), rows.to(dtype))
    inner, lane = (number, position) if kind is Keys else (position, number)
    assert storage[0, 1, lane // 16, inner // each, lane % 16, inner % each] == 5
