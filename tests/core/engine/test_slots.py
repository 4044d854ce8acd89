"""An Engine works the same over a device that keeps rows in slots at fixed addresses."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch

from tests.core.cache.slot_states import SlotSteps, WritingSteps
from tests.core.cache.test_parking import requests, run
from tests.core.model_parts import parts_of
from zaya_core.engine.engine import Engine
from zaya_core.engine.events import Parked
from zaya_core.kernels.reference import ReferenceSteps
from zaya_core.load import assemble
from zaya_core.sampling.reference import ReferenceSampling


@pytest.fixture(scope="module")
def models(folder):
    """The same model with its state as tensors, in slots, and in slots that a token's pass writes itself."""
    found = []
    for steps in (ReferenceSteps, SlotSteps, WritingSteps):
        parts = parts_of(folder)
        found.append(assemble(parts, steps(parts, ReferenceSampling(), steps.__name__, ""), ""))
    return found


@pytest.mark.parametrize("steps", [1, 2], ids=["torch writes", "the pass writes"])
@pytest.mark.parametrize(
    ("max_blocks", "wanted"),
    [(None, requests(3, max_tokens=20, snapshot_at=(20,), keep_state=True)), (7, requests())],
    ids=["room for all", "rows are parked"],
)
def test_texts_are_those_of_states_that_are_tensors(models, tokenizer, max_blocks, wanted, steps):
    engines = [Engine(models[one], tokenizer, max_rows=4, max_blocks=max_blocks) for one in (0, steps)]
    (_, expected), (events, found) = (run(engine, wanted) for engine in engines)
    assert found == expected
    assert any(isinstance(event, Parked) for event in events) == (max_blocks is not None)
    slotted: Any = engines[1].states
    assert slotted.generation == 1, "slots have moved"


def test_slots_are_free_again_when_nobody_has_their_rows(models, tokenizer):
    engine = Engine(models[1], tokenizer, max_rows=2)
    states: Any = engine.states
    pairs, addresses = states.free_pairs, [tensor.data_ptr() for tensor in (states.tail, states.delayed)]
    run(engine, requests(2, max_tokens=4))
    first = engine.submit(requests(1)[0])
    engine.step()
    assert states.free_pairs < pairs
    engine.cancel(first)
    engine.step()
    gc.collect()
    assert states.free_pairs == pairs == states.tail.shape[1] // 2
    assert [tensor.data_ptr() for tensor in (states.tail, states.delayed)] == addresses


def test_laws_of_the_cache_hold_in_slots(models):
    plain, slotted, _ = models
    ids = torch.randint(3, 250, (1, 30), generator=torch.Generator().manual_seed(1))
    whole = plain(ids)[0]
    cache = slotted.new_cache()
    slotted(ids[:, :11], cache)
    start = cache.snapshot()
    rows = cache.fork(3)
    for stop in range(11, 30):
        step = slotted(ids[:, stop : stop + 1].expand(3, 1), rows)
        torch.testing.assert_close(step[:, 0], whole[stop].expand(3, -1), atol=1e-4, rtol=1e-4)
    cache.restore(start)
    torch.testing.assert_close(slotted(ids[:, 11:], cache)[0], whole[11:], atol=1e-4, rtol=1e-4)
