"""What a pass and its cache may be given: all else is a ValueError with the numbers, before anything is touched."""

from __future__ import annotations

import pytest
import torch

from zaya_cli.models.folder import BUNDLED
from zaya_core.cache.cache import Cache
from zaya_core.load import load_model

IDS = torch.randint(3, 700, (3, 4), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["bfloat16", "float32"])  # by the library's steps where it has them, and without
def model(request):
    return load_model(BUNDLED / "demo", device="cpu", dtype=request.param)


@pytest.fixture(scope="module")
def other():
    return load_model(BUNDLED / "demo", device="cpu", dtype="bfloat16", kv="int8")


@pytest.mark.parametrize(
    ("rows", "ids", "lengths", "message"),
    [
        (1, IDS, None, "ids have 3 rows; the cache has 1"),
        (3, IDS[:1], None, "ids have 1 rows; the cache has 3"),
        (3, IDS, [9, 4, 4], "lengths must be a whole number from 0 to 4; it is 9"),
        (3, IDS, [-3, 4, 4], "from 0 to 4; it is -3"),
        (3, IDS, [2.0, 4, 4], "it is 2.0"),
        (3, IDS, [True, 4, 4], "it is True"),
        (3, IDS, torch.tensor([2.0, 4, 4]), "float32"),
        (3, IDS, [4, 4], "lengths must be 3"),
        (3, IDS, [0, 0, 0], "one of them above 0"),
        (3, IDS, 4, "several whole numbers"),
        (3, IDS[:, :0], None, "B and T at least 1"),
        (3, IDS[0], None, r"ids must be \(B, T\) int64"),
        (3, IDS.float(), None, "float32"),
        (3, IDS.bool(), None, "bool"),
        (3, IDS.to("meta"), None, "meta"),
        (3, IDS.tolist(), None, "list"),
    ],
)
def test_what_is_no_call_is_refused_and_the_cache_stays(model, rows, ids, lengths, message):
    cache = model.new_cache(rows)
    before = cache.cca
    with pytest.raises(ValueError, match=message):
        model(ids, cache, lengths)
    assert cache.row_lengths == [0] * rows
    assert cache.cca is before
    assert not any(table.blocks for table in cache.tables)


@pytest.mark.parametrize("id", [-1, 10**6])
def test_an_id_outside_of_the_vocabulary_is_refused_with_the_library_s_steps_and_without(model, id):
    cache = model.new_cache(3)
    with pytest.raises(IndexError, match=f"{id}.* the vocabulary has 0 to {model.config.vocab_size - 1}"):
        model(IDS.masked_fill(IDS[1, 2] == IDS, id), cache)
    assert cache.row_lengths == [0, 0, 0]


def test_the_cache_of_another_model_is_refused(model, other):
    with pytest.raises(ValueError, match="new_cache"):
        model(IDS, other.new_cache(3))
    with pytest.raises(ValueError, match="pool of another Engine or model"):
        model.new_cache(3).restore(other.new_cache(3).snapshot())
    with pytest.raises(ValueError, match="caches of one owner"):
        Cache.join([model.new_cache(), other.new_cache()])


def test_last_only_needs_a_token_in_each_row(model):
    with pytest.raises(ValueError, match="last_only"):
        model(IDS, lengths=[4, 0, 1], last_only=True)


def test_ids_in_32_bits_and_with_gaps_between_them_give_the_same_bits(model):
    expected = model(IDS)
    assert torch.equal(model(IDS.int()), expected)
    assert torch.equal(model(torch.stack([IDS, IDS + 1], -1)[..., 0]), expected)
    assert torch.equal(model(IDS.t().contiguous().t(), lengths=torch.tensor([4, 4, 4], dtype=torch.int32)), expected)


def test_a_cache_with_one_table_for_two_rows_is_refused(model):
    """They would write over each other's keys."""
    cache = model.new_cache(2)
    with pytest.raises(ValueError, match="a table of its own"):
        Cache.join([cache, cache])


def test_a_row_is_repeated_in_a_pool_that_is_too_small_for_all_or_not_at_all(model):
    cache = model.new_cache(1)
    model(torch.randint(3, 700, (1, 256)), cache)
    with pytest.raises(ValueError, match="no full block"):
        Cache.join([cache.select([0]), model.new_cache()]).repeat_to(600)
    mixed = Cache.join([cache, model.new_cache()])
    with pytest.raises(ValueError, match="no full block"):
        mixed.repeat_to(600)
    assert mixed.row_lengths == [256, 0]
