"""A model is placed on a card as it was planned: all at load, nothing more later, and a full card is said at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.gpu.simulated_card import Card, simulated_cards
from zaya_cli import runtime
from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.machine.hardware import Memory
from zaya_core.engine.request import Request
from zaya_core.errors import MemoryFitError
from zaya_core.machine.card_fit import SCORES_BYTES
from zaya_core.model import attention
from zaya_core.sampling.params import SamplingParams

SETTINGS = RuntimeSettings(model="demo", device="cuda", threads=1)


@pytest.fixture
def card(monkeypatch):
    with simulated_cards(Card(total=2 << 30)) as (one,):
        memory = Memory(one.name, one.total, one.free, card=0)
        monkeypatch.setattr(runtime, "memory_of", lambda device: memory)
        yield one


def sizes(pool):
    return {len(storage) for layers in pool.tensors.values() for storage in layers}


def test_all_of_the_pool_is_there_at_load_and_an_answer_stays_within_what_was_planned(card):
    engine = runtime.open_runtime(SETTINGS).engine
    pool, held = engine.states.pool, card.held
    assert pool.max_blocks == 16 * engine.context // 256 and sizes(pool) == {pool.max_blocks}
    assert sizes(engine.model.states.pool) == {0}  # nobody has a use for it yet
    assert pool.max_blocks is not None and held >= pool.max_blocks * pool.layout.bytes_per_block
    generation = pool.generation
    ids = engine.tokenizer.render_chat([{"role": "user", "content": "What is 17 + 5? " * 10}])
    request = Request(ids, SamplingParams(seed=1), max_tokens=6)
    assert list(engine.generate([request, request]))
    assert pool.generation == generation
    assert card.peak <= Memory(card.name, card.total, card.total, card=0).usable


@pytest.mark.parametrize("left", [1 << 20, 40 << 20])  # too little for the weights, and for the pool behind them
def test_a_card_that_others_have_filled_meanwhile_is_said_at_load(card, left):
    card.used = card.total - left
    with pytest.raises(MemoryFitError, match="demo found less room than expected on Simulated RTX") as refused:
        runtime.open_runtime(SETTINGS)
    assert "Tried to allocate" not in str(refused.value)


def test_attention_keeps_to_what_is_counted_for_its_scores():
    assert SCORES_BYTES == 4 * 4 * attention.SCORES  # they, masked, and what they become, in float32


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_of_two_cards_one_with_room_is_taken_before_one_that_suits_better(monkeypatch, device):
    monkeypatch.setattr("zaya_cli.placing.gpu_hardware", lambda: [True])
    monkeypatch.setattr("zaya_core.measure.cpu_or_card.decode_rate", lambda trial, device: 9.0 + (device != "cpu"))
    full, small = Card("full", total=8 << 30, used=8 << 30), Card("iGPU", total=2 << 30, is_integrated=True)
    with simulated_cards(full, small):
        engine = runtime.open_runtime(replace(SETTINGS, device=device)).engine
        assert engine.model.device.index == 1
        assert full.peak == 0 < small.peak
        del engine
