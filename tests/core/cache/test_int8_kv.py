"""Keys and values in int8: half the bytes, the same laws, and predictions that hardly change.

Chunks, steps, batches, forks and snapshots are in `test_state_laws.py`.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.quantization_quality import differences, predictions, worked_rows
from demo.evaluate import BUNDLED
from demo.problems import held_out
from tests.core.cache.test_parking import prompts, requests, run
from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.parking import ParkedCache
from zaya_core.cache.prefix_file import load_prefixes, save_prefixes
from zaya_core.cache.step import CacheStep
from zaya_core.engine.engine import Engine, Request
from zaya_core.engine.events import Parked
from zaya_core.errors import CheckpointError, UsageError
from zaya_core.load import load_model
from zaya_core.machine.memory_fit import longest_context, memory_need
from zaya_core.sampling.params import SamplingParams
from zaya_core.text.tokenizer import load_tokenizer

LARGEST_MEAN_KL = 1e-4  # of 24 problems, measured: 2e-5; on 1,000 a few tokens make it 1.7e-4 (docs/quantization.md)


@pytest.fixture
def model(folder):
    """A model of its own with keys and values in int8."""
    return load_model(folder, device="cpu", kv="int8")


def test_what_is_kept_is_within_half_a_step_of_what_was_computed(folder, model):
    exact, ids = load_model(folder, device="cpu"), torch.tensor([prompts(1)[0]])
    caches = exact.new_cache(), model.new_cache()
    exact(ids, caches[0])
    model(ids, caches[1])
    kept, rounded = (cache.tables[0].read(ids.shape[1]) for cache in caches)
    for codes, scales, values in (("keys", "key_scales", "keys"), ("values", "value_scales", "values")):
        step = rounded[scales][0, ..., None]  # of the first layer, whose inputs are the same
        error = (rounded[codes][0] * step - kept[values][0]).abs()
        assert (error <= 0.5001 * step).all()
        largest = rounded[codes][0].abs().amax(-1)  # the first token has no delayed value: zeros
        assert torch.equal(largest == 127, kept[values][0].abs().amax(-1) > 0)


def test_bytes_are_those_of_the_tensors_and_fewer(folder, model):
    pool = model.states.pool
    model(torch.tensor([[300, 301]]), cache := model.new_cache())
    blocks = len(pool.tensors["keys"][0])
    stored = sum(one.nbytes for layers in pool.tensors.values() for one in layers)
    assert stored == blocks * pool.layout.bytes_per_block
    assert cache.nbytes == pool.layout.bytes_per_block + cache.cca.nbytes
    config = model.config
    assert pool.layout.bytes_per_block == BLOCK * config.kv_bytes_per_token(4, "int8")
    assert memory_need(config, 0, 100, "int8").keys_and_values == 100 * config.kv_bytes_per_token(kv="int8")
    wide = load_model(BUNDLED, device="cpu").config  # heads of a real width
    assert wide.kv_bytes_per_token(kv="int8") < 0.6 * wide.kv_bytes_per_token()
    memory = 10**9
    assert longest_context(wide, 0, memory, "int8") >= longest_context(wide, 0, memory)


def test_a_key_that_is_not_a_number_stays_one(model):
    cache = model.new_cache()
    with torch.inference_mode(), CacheStep.begin(cache, 1) as step:
        heads = (1, 1, model.config.num_key_value_heads, model.config.head_dim)
        broken, whole = torch.full(heads, torch.nan), torch.zeros(heads)
        for layer in range(model.config.num_hidden_layers):
            step.store(layer, broken, whole)
            keys, values = step.gather(layer, slice(0, 1))
            step.keep_state(step.conv_tail(layer).repeat(1, 2, 1)[:, :3], step.delayed(layer)[:, None].repeat(1, 2, 1))
            assert keys.isnan().all()
            assert (values == 0).all()


def test_a_parked_row_goes_on_bit_for_bit(model):
    ids = torch.tensor([prompts(1)[0]])
    cache = model.new_cache()
    model(ids, cache)
    stayed, parked = cache.fork(1), ParkedCache.of(cache)
    del cache
    model(ids.repeat(3, 1), model.new_cache(3))
    with torch.inference_mode():
        back = parked.back_in(model.states)
    for token in (310, 311, 312):
        step = torch.tensor([[token]])
        assert torch.equal(model(step, back), model(step, stayed))


def test_an_engine_with_too_few_blocks_gives_the_same_texts(model, tokenizer):
    _, expected = run(Engine(model, tokenizer), requests(3))
    events, found = run(Engine(model, tokenizer, max_blocks=5), requests(3))
    assert any(isinstance(event, Parked) for event in events)
    assert found == expected


@pytest.fixture
def saved(model, tokenizer, tmp_path):
    """Prefixes of the first prompt, and what goes on from them."""
    engine = Engine(model, tokenizer)
    request = Request(prompts(1)[0], SamplingParams(seed=5), max_tokens=9, snapshot_at=(100, 240), ignore_stop_ids=True)
    _, expected = run(engine, [request])
    path = tmp_path / "prefixes.safetensors"
    save_prefixes(path, engine.prefixes.beginnings_of(request.ids), "these weights")
    return path, request, expected


def test_another_process_goes_on_from_saved_int8_prefixes_bit_for_bit(saved, folder, tokenizer):
    path, request, expected = saved
    other = load_model(folder, device="cpu", kv="int8")
    engine = Engine(other, tokenizer)
    for prefix in load_prefixes(path, engine.states, "these weights"):
        engine.prefixes.add(prefix)
    events, found = run(engine, [request])
    assert found == expected
    assert events[-1].stats.cached_tokens == 240


def test_prefixes_with_keys_and_values_in_another_form_are_refused(saved, folder, tokenizer, tmp_path):
    path, _, _ = saved
    plain = load_model(folder, device="cpu")
    with pytest.raises(CheckpointError, match="--kv"):
        load_prefixes(path, plain.states, "these weights")
    engine = Engine(plain, tokenizer)
    ids = prompts(1)[0]
    run(engine, [Request(ids, SamplingParams(seed=5), max_tokens=1, snapshot_at=(100,))])
    save_prefixes(tmp_path / "plain", engine.prefixes.beginnings_of(ids), "these weights")
    with pytest.raises(CheckpointError, match="--kv"):
        load_prefixes(tmp_path / "plain", load_model(folder, device="cpu", kv="int8").states, "these weights")


def test_a_form_that_is_not_offered_is_refused(folder):
    with pytest.raises(UsageError, match="use auto or int8"):
        load_model(folder, device="cpu", kv="int4")  # type: ignore[arg-type]


def test_the_bundled_models_predictions_hardly_change():
    rows, starts = worked_rows(held_out(24), load_tokenizer(BUNDLED))
    plain, int8 = (predictions(load_model(BUNDLED, device="cpu", kv=kv), rows, starts) for kv in ("auto", "int8"))
    found = differences(plain, int8)
    assert 0 < found["mean_kl"] < LARGEST_MEAN_KL
    assert found["same_top"] > 0.995
