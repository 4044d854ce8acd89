"""However the tokens arrive, the logits are the same: chunks, single steps, batches, snapshots, forks.

The state laws of the cache, on models with two window sizes, an attention bias (a delayed value that does not start at
zero) and longer convolutions.
"""

from __future__ import annotations

import gc
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.core.cache.slot_states import SlotSteps, WritingSteps
from tests.core.model_parts import parts_of
from tests.core.tiny_models import reference_model, save_native
from zaya_core.cache import blocks
from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.cache import Cache
from zaya_core.cache.step import CacheStep
from zaya_core.config.kv_format import KVFormat
from zaya_core.load import assemble, load_model
from zaya_core.model.model import Cancelled
from zaya_core.sampling.reference import ReferenceSampling

pytest.importorskip("transformers")
TOLERANCE = 1e-5
VARIANTS = ["base", "attention_bias", "one_sliding_layer", "longer_convolutions"]
INT8 = "int8_kv"  # one_sliding_layer with keys and values in int8
# CCA's state in slots; which pass writes them differs
IN_SLOTS = {"base in slots": SlotSteps, "one_sliding_layer in slots": WritingSteps, "int8_kv in slots": WritingSteps}
FIXED = [
    *VARIANTS,
    INT8,
    *IN_SLOTS,
]  # for fixed numbers only: of random ones a few lie so close to half a step that they may flip
IDS = torch.randint(3, 131, (1, 9), generator=torch.Generator().manual_seed(1))


@cache
def model_of(variant):
    name = variant.partition(" ")[0]
    reference = reference_model("one_sliding_layer" if name == INT8 else name)
    kv: KVFormat = "int8" if name == INT8 else "auto"
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # which may be mapped
        saved = save_native(reference, Path(folder))
        if variant not in IN_SLOTS:
            return load_model(saved, device="cpu", kv=kv)
        parts = parts_of(saved, kv=kv)
        return assemble(parts, IN_SLOTS[variant](parts, ReferenceSampling(), variant, ""), "")


def random_ids(count, rows=1, seed=0):
    return torch.randint(3, 131, (rows, count), generator=torch.Generator().manual_seed(seed))


def in_chunks(model, ids, ends, kv=None):
    """Logits of all positions, computed chunk by chunk."""
    kv = kv if kv is not None else model.new_cache(len(ids))
    return torch.cat([model(ids[:, start:end], kv) for start, end in pairwise([0, *ends, ids.shape[1]])], dim=1)


def equal(actual, expected):
    torch.testing.assert_close(actual, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("variant", FIXED)
def test_every_split_of_nine_tokens_equals_the_whole(variant):
    """All 256 splits, as a tree: splits that begin alike go on from a fork of the same state."""
    model = model_of(variant)
    whole = model(IDS)

    def go_on(kv, start):
        for end in range(start + 1, 10):
            branch = kv.fork(1)
            equal(model(IDS[:, start:end], branch), whole[:, start:end])
            go_on(branch, end)

    go_on(model.new_cache(), 0)


@settings(max_examples=40, deadline=None)
@example(variant=INT8, count=2 * BLOCK + 20, cuts={1, 100, BLOCK, BLOCK + 1}, seed=3)
@given(
    variant=st.sampled_from(VARIANTS),
    count=st.integers(10, 2 * BLOCK + 50),
    cuts=st.sets(st.integers(1, 2 * BLOCK + 49), max_size=6),
    seed=st.integers(0, 99),
)
def test_random_splits_of_long_prompts_equal_the_whole(variant, count, cuts, seed):
    model, ids = model_of(variant), random_ids(count, seed=seed)
    equal(in_chunks(model, ids, sorted(cut for cut in cuts if cut < count)), model(ids))


@pytest.mark.parametrize("variant", FIXED)
def test_single_steps_equal_the_whole(variant):
    model, ids = model_of(variant), random_ids(40)
    equal(in_chunks(model, ids, range(1, 40)), model(ids))


@settings(max_examples=30, deadline=None)
@example(variant=INT8, lengths=[(5, 0, 7), (12, 3, 1), (0, 9, 4)])
@given(
    variant=st.sampled_from([*VARIANTS, "base in slots"]),
    lengths=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 12)), min_size=2, max_size=5),
)
def test_rows_of_different_lengths_equal_each_row_alone(variant, lengths):
    """Three padded passes: what stands in the padding never reaches a convolution, a key or a state."""
    model = model_of(variant)
    rows = [random_ids(sum(row), seed=number) for number, row in enumerate(lengths)]
    kv = model.new_cache(len(rows))
    done = [0] * len(rows)
    for turn in range(3):
        new = [row[turn] for row in lengths]
        width = max(new)
        if width == 0:
            continue
        padded = random_ids(width, len(rows), seed=99)
        for number, row in enumerate(rows):
            padded[number, : new[number]] = row[0, done[number] : done[number] + new[number]]
        logits = model(padded, kv, lengths=new)
        for number, row in enumerate(rows):
            if new[number]:
                end = done[number] + new[number]
                equal(logits[number, : new[number]], model(row[:, :end])[0, done[number] :])
            done[number] += new[number]
    assert kv.lengths.tolist() == done


@pytest.mark.parametrize("variant", FIXED)
def test_a_snapshot_stays_valid_whatever_is_written_later(variant):
    model, ids, other = model_of(variant), random_ids(30), random_ids(30, seed=5)
    kv = model.new_cache()
    model(ids[:, :7], kv)
    early = kv.snapshot()
    model(ids[:, 7:20], kv)
    late = kv.snapshot()
    model(other, kv)
    whole = model(ids)
    for snapshot, length in ((early, 7), (late, 20), (early, 7), (late, 20)):
        kv.restore(snapshot)
        assert kv.lengths.tolist() == [length]
        equal(model(ids[:, length:], kv), whole[:, length:])
        model(other, kv)


@pytest.mark.parametrize("variant", ["one_sliding_layer", INT8, "one_sliding_layer in slots"])
def test_an_older_and_then_a_newer_snapshot_restore_across_blocks(variant):
    model, ids = model_of(variant), random_ids(2 * BLOCK + 30)
    kv, snapshots = model.new_cache(), {}
    for end in (BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK):
        start = kv.row_lengths[0]
        model(ids[:, start:end], kv)
        snapshots[end] = kv.snapshot()
    whole = model(ids)
    for end in (2 * BLOCK, BLOCK - 1, BLOCK + 1, BLOCK, 2 * BLOCK):
        kv.restore(snapshots[end])
        equal(model(ids[:, end:], kv), whole[:, end:])


@pytest.mark.parametrize("variant", FIXED)
def test_forks_go_their_own_ways(variant):
    model, prefix = model_of(variant), random_ids(BLOCK + 10)
    kv = model.new_cache()
    model(prefix, kv)
    rows = kv.fork(3)
    ways = random_ids(6, rows=3, seed=4)
    logits = torch.cat([model(ways[:, :2], rows), model(ways[:, 2:], rows)], dim=1)
    for number, way in enumerate(ways):
        alone = model(torch.cat([prefix, way[None]], dim=1))
        equal(logits[number], alone[0, prefix.shape[1] :])
    equal(model(ways[:1], kv)[0], model(torch.cat([prefix, ways[:1]], dim=1))[0, prefix.shape[1] :])


@pytest.mark.parametrize("variant", ["base", "base in slots"])
def test_forks_share_full_blocks_and_copy_the_partial_one_when_they_write(variant):
    model = model_of(variant)
    kv = model.new_cache()
    model(random_ids(3 * BLOCK + 10), kv)
    before = kv.pool.blocks_in_use
    rows = kv.fork(16)
    assert rows.pool.blocks_in_use == before
    model(random_ids(1, rows=16), rows)
    assert rows.pool.blocks_in_use == before + 16
    assert rows.nbytes < kv.nbytes + 16 * (kv.pool.layout.bytes_per_block + kv.states.nbytes(kv.cca)) + 1
    assert len({table.blocks[0] for table in rows.tables}) == 1


def test_blocks_return_to_the_pool_when_nobody_needs_them():
    model = model_of("equal_heads")
    kv = model.new_cache()
    model(random_ids(2 * BLOCK), kv)
    snapshot, rows = kv.snapshot(), kv.fork(4)
    model(random_ids(5, rows=4), rows)
    del kv, rows
    gc.collect()
    assert snapshot.tables[0].pool.blocks_in_use == 2
    del snapshot
    gc.collect()
    assert model.states.pool.blocks_in_use == 0


@pytest.mark.parametrize("variant", ["one_sliding_layer", INT8, *IN_SLOTS])
def test_select_and_join_move_rows_between_batches(variant):
    model, ids = model_of(variant), random_ids(12, rows=3)
    kv = model.new_cache(3)
    model(ids[:, :8], kv)
    mixed = Cache.join([kv.select([2]), kv.select([0, 1])])
    order = [2, 0, 1]
    equal(model(ids[order, 8:], mixed), model(ids)[order, 8:])


@pytest.mark.parametrize("variant", ["one_sliding_layer", "one_sliding_layer in slots"])
def test_a_cut_chunk_leaves_the_cache_as_before(variant):
    model, ids = model_of(variant), random_ids(60)
    for stop_at_layer in range(3):
        kv = model.new_cache()
        model(ids[:, :20], kv)
        nbytes, asked = kv.nbytes, iter([False] * stop_at_layer + [True])
        with pytest.raises(Cancelled):
            model(ids[:, 20:], kv, should_stop=lambda asked=asked: next(asked))
        assert (kv.lengths.tolist(), kv.nbytes) == ([20], nbytes)
        equal(model(ids[:, 20:], kv), model(ids)[:, 20:])


def test_last_only_keeps_the_head_off_all_but_the_last_real_position():
    model, ids = model_of("base"), random_ids(10, rows=2)
    logits = model(ids, model.new_cache(2), lengths=[4, 10], last_only=True)
    assert logits.shape == (2, 1, model.config.vocab_size)
    whole = model(ids)
    equal(logits[:, 0], torch.stack([whole[0, 3], whole[1, 9]]))


def test_what_is_no_number_in_a_row_does_not_reach_shorter_rows_beside_a_longer_one(model):
    """Their tables are filled up to as many blocks; zero times what is no number is none either."""
    caches = [model.new_cache() for _ in range(3)]
    prompts = [random_ids(length) for length in (10, 12, BLOCK + 5)]
    for ids, kv in zip(prompts, caches, strict=True):
        model(ids, kv)
    expected = model(random_ids(1), caches[1].fork(1))
    (first,) = caches[0].tables[0].blocks
    with torch.inference_mode():
        for storage in (storage for layers in model.states.pool.tensors.values() for storage in layers):
            storage[first] = float("nan")
    logits = model(random_ids(1).repeat(3, 1), Cache.join(caches))
    equal(logits[1], expected[0])


@pytest.mark.parametrize("variant", ["base", "base in slots"])
def test_a_pass_whose_state_cannot_be_kept_leaves_the_cache_as_it_was(monkeypatch, variant):
    model = model_of(variant)
    kv = model.new_cache()
    expected = model(random_ids(9))
    model(random_ids(9)[:, :4], kv, is_prompt=True)

    def no_memory(*_):
        raise MemoryError

    before = kv.cca
    with monkeypatch.context() as patch:
        patch.setattr(type(kv.states), "advance", no_memory)
        with pytest.raises(MemoryError):
            model(random_ids(9)[:, 4:], kv, is_prompt=True)
    assert kv.row_lengths == [4] and kv.cca is before
    equal(model(random_ids(9)[:, 4:], kv, is_prompt=True)[0], expected[0, 4:])


def test_a_pass_that_forgets_a_layers_state_is_an_error():
    model = model_of("base")
    cache = model.new_cache()
    with pytest.raises(RuntimeError, match="state of 1 layers"), CacheStep.begin(cache, 1) as step:
        step.replace_state(step.conv_tail(0), step.delayed(0))
    assert cache.row_lengths == [0]


def test_blocks_are_given_back_at_the_end_of_a_program_when_its_modules_have_lost_their_names(model, monkeypatch):
    cache = model.new_cache()
    model(torch.tensor([[5, 6, 7]]), cache)
    pool, in_use = cache.pool, cache.pool.blocks_in_use
    for name in ("heapq", "torch", "math"):
        monkeypatch.setattr(blocks, name, None)
    cache.tables.clear()
    assert pool.blocks_in_use == in_use - 1
