"""A pool too small for all rows: they are parked and go on, and nobody can tell from their texts."""

from __future__ import annotations

import pytest
import torch

from zaya_core.engine import Engine, Request
from zaya_core.errors import MemoryFitError
from zaya_core.events import Finished, Parked, TokenEvent, Unparked
from zaya_core.load import load_model
from zaya_core.parking import ParkedCache
from zaya_core.sampling import SamplingParams

SAMPLED = SamplingParams(seed=5)


@pytest.fixture
def model(folder):
    """A model with a pool of its own."""
    return load_model(folder, device="cpu")


def prompts(count=5, length=250):
    return [[300 + (7 * row + 3 * at) % 60 for at in range(length)] for row in range(count)]


def requests(count=5, **settings):
    return [
        Request(
            ids=ids, **{"sampling": SAMPLED, "max_tokens": 275, "ignore_stop_ids": True, "candidate": row, **settings}
        )
        for row, ids in enumerate(prompts(count))
    ]


def run(engine, wanted):
    events = list(engine.generate(wanted))
    tokens: dict[int, list[int]] = {}
    for event in events:
        if isinstance(event, TokenEvent):
            tokens.setdefault(event.request_id, []).append(event.token_id)
    return events, [tokens[id_] for id_ in sorted(tokens)]


def test_a_parked_row_goes_on_bit_for_bit(model):
    ids = torch.tensor([prompts(1)[0]])
    cache = model.new_cache()
    with torch.inference_mode():
        model(ids, cache)
        stayed = cache.fork(1)
        parked = ParkedCache.of(cache)
        del cache
        others = model.new_cache(3)  # take the blocks that were freed, and leave something else in them
        model(ids.repeat(3, 1), others)
        back = parked.back_in(model.pool)
        for token in (310, 311, 312):
            step = torch.tensor([[token]])
            assert torch.equal(model(step, back), model(step, stayed))


def test_parking_gives_the_same_texts_as_a_pool_for_all(model, tokenizer):
    _, expected = run(Engine(model, tokenizer), requests())
    crowded = Engine(with_bound(model, 7), tokenizer)  # each row grows to three blocks
    events, found = run(crowded, requests())
    assert any(isinstance(event, Parked) for event in events)
    assert found == expected
    assert crowded.is_idle


def with_bound(model, blocks):
    """The same model after its pool has been emptied and bounded."""
    pool = type(model.pool)(model.pool.layout, max_blocks=blocks)
    return type(model)(**{**vars(model), "pool": pool})


def test_the_youngest_is_parked_and_the_oldest_goes_on_first(model, tokenizer):
    engine = Engine(with_bound(model, 7), tokenizer)
    events, _ = run(engine, requests())
    parked = [event.request_id for event in events if isinstance(event, Parked)]
    back = [event.request_id for event in events if isinstance(event, Unparked)]
    ended = [event.request_id for event in events if isinstance(event, Finished)]
    assert parked and sorted(parked) == sorted(back)
    assert parked[0] == max(parked)
    assert ended[0] == 0
    assert 0 not in parked


def test_blocks_in_use_never_exceed_the_bound(model, tokenizer):
    bounded = with_bound(model, 4)
    engine = Engine(bounded, tokenizer)
    for request in requests():
        engine.submit(request)
    while not engine.is_idle:
        engine.step()
        assert bounded.pool.blocks_in_use <= 4


def test_a_row_that_does_not_fit_even_alone_is_told_so_and_the_engine_goes_on(model, tokenizer):
    engine = Engine(with_bound(model, 1), tokenizer)
    with pytest.raises(MemoryFitError, match="1 blocks"):
        list(engine.generate(requests(2)))
    assert engine.is_idle
    _, found = run(engine, requests(1, max_tokens=3))
    assert len(found[0]) == 3


def test_kept_prefixes_make_room_before_a_row_is_parked(model, tokenizer):
    engine = Engine(with_bound(model, 7), tokenizer)
    run(engine, [Request(ids=ids, sampling=SAMPLED, max_tokens=2, snapshot_at=(200,)) for ids in prompts(5)])
    events, _ = run(engine, requests(2))
    assert not any(isinstance(event, Parked) for event in events)


def test_cancelling_a_parked_row_ends_it(model, tokenizer):
    engine = Engine(with_bound(model, 7), tokenizer)
    ids = [engine.submit(request) for request in requests()]
    reasons: dict[int, str] = {}
    while not engine.is_idle:
        for event in engine.step():
            if isinstance(event, Parked):
                engine.cancel(*ids)
            elif isinstance(event, Finished):
                reasons[event.request_id] = event.reason
    assert set(reasons) == set(ids)
    assert "cancelled" in reasons.values()
    engine.prefixes.clear()
    assert engine.model.pool.blocks_in_use == 0


def test_the_answer_budget_counts_what_comes_after_the_thinking(model, tokenizer):
    thinking = tokenizer.render_chat([{"role": "user", "content": "x"}])
    assert tokenizer.starts_in_thinking(thinking)
    for answer in (0, 1, 5):
        request = Request(ids=thinking, sampling=SAMPLED, thinking_budget=7, answer_budget=answer, ignore_stop_ids=True)
        (end,) = [event for event in Engine(model, tokenizer).generate([request]) if isinstance(event, Finished)]
        assert end.stats.completion_tokens - end.stats.thinking_tokens == answer
        assert end.reason == ("length" if answer else "stop")


def test_the_mean_log_probability_is_of_the_chosen_tokens_not_of_forced_ones(model, tokenizer):
    thinking = tokenizer.render_chat([{"role": "user", "content": "x"}])
    request = Request(ids=thinking, sampling=SAMPLED, thinking_budget=3, max_tokens=9, ignore_stop_ids=True)
    events = list(Engine(model, tokenizer).generate([request]))
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    forced = [event.token_id == tokenizer.think_end_id for event in tokens]
    assert forced == [False] * 3 + [True] + [False] * 5
    chosen = [event.logprob for event in tokens if event.token_id != tokenizer.think_end_id]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.stats.mean_logprob == pytest.approx(sum(chosen) / 8)
