"""A pool too small for all rows: they are parked and go on, and nobody can tell from their texts."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from zaya_core.cache.cache import Cache
from zaya_core.cache.parking import ParkedCache
from zaya_core.cache.prefixes import Prefix
from zaya_core.engine.engine import Engine, Request
from zaya_core.engine.events import Failed, Finished, Parked, TokenEvent, Unparked
from zaya_core.errors import MemoryFitError
from zaya_core.load import load_model
from zaya_core.sampling.params import SamplingParams

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
        back = parked.back_in(model.states)
        for token in (310, 311, 312):
            step = torch.tensor([[token]])
            assert torch.equal(model(step, back), model(step, stayed))


def test_parking_gives_the_same_texts_as_a_pool_for_all(model, tokenizer):
    _, expected = run(Engine(model, tokenizer), requests())
    crowded = Engine(model, tokenizer, max_blocks=7)  # each row grows to three blocks
    events, found = run(crowded, requests())
    assert any(isinstance(event, Parked) for event in events)
    assert found == expected
    assert crowded.is_idle


def test_the_youngest_is_parked_and_the_oldest_goes_on_first(model, tokenizer):
    engine = Engine(model, tokenizer, max_blocks=7)
    events, _ = run(engine, requests())
    parked = [event.request_id for event in events if isinstance(event, Parked)]
    back = [event.request_id for event in events if isinstance(event, Unparked)]
    ended = [event.request_id for event in events if isinstance(event, Finished)]
    assert parked and sorted(parked) == sorted(back)
    assert parked[0] == max(parked)
    assert ended[0] == 0
    assert 0 not in parked


def test_blocks_in_use_never_exceed_the_bound(model, tokenizer):
    engine = Engine(model, tokenizer, max_blocks=4)
    for request in requests():
        engine.submit(request)
    while not engine.is_idle:
        engine.step()
        assert engine.states.pool.blocks_in_use <= 4


def test_a_row_that_does_not_fit_even_alone_is_told_so_and_the_engine_goes_on(model, tokenizer):
    engine = Engine(model, tokenizer, max_blocks=1)
    with pytest.raises(MemoryFitError, match="1 blocks"):
        list(engine.generate(requests(2)))
    assert engine.is_idle
    _, found = run(engine, requests(1, max_tokens=3))
    assert len(found[0]) == 3


def test_kept_prefixes_make_room_before_a_row_is_parked(model, tokenizer):
    engine = Engine(model, tokenizer, max_blocks=7)
    run(engine, [Request(ids=ids, sampling=SAMPLED, max_tokens=2, snapshot_at=(200,)) for ids in prompts(5)])
    events, _ = run(engine, requests(2))
    assert not any(isinstance(event, Parked) for event in events)


def test_cancelling_a_parked_row_ends_it(model, tokenizer):
    engine = Engine(model, tokenizer, max_blocks=7)
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
    assert engine.states.pool.blocks_in_use == 0


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


def keeping():
    """Requests of two blocks each whose state at the end is kept."""
    return [Request(ids, SAMPLED, max_tokens=2, keep_state=True) for ids in prompts(6, 300)]


def test_kept_prefixes_make_room_when_nobody_runs_the_least_recently_used_first(model, tokenizer):
    engine = Engine(model, tokenizer, max_blocks=6)
    asked: list[list[int]] = []
    for number, request in enumerate(keeping()):
        _, found = run(engine, [request])
        assert len(found[0]) == 2
        asked.append([*request.ids, *found[0], 0])
        kept = [bool(engine.prefixes.beginnings_of(ids)) for ids in asked]
        assert kept == [number - 3 < other for other in range(number + 1)]


def test_prefixes_that_share_a_block_make_room_together(model, tokenizer):
    """As those of a file do: no single one would free the block."""
    engine = Engine(model, tokenizer, max_blocks=1)
    ids = prompts(1)[0]
    run(engine, [Request(ids, SAMPLED, max_tokens=1)])
    cache = Cache.empty(engine.states)
    with torch.inference_mode():
        engine.model(torch.tensor([ids]), cache)
    engine.prefixes.add(Prefix(tuple(ids), cache.snapshot()))
    engine.prefixes.add(Prefix(tuple(ids[:100]), cache.snapshot()))
    del cache
    assert engine.states.pool.blocks_left == 0
    _, found = run(engine, [Request(prompts(2)[1], SAMPLED, max_tokens=3)])
    assert len(found[0]) == 3


@pytest.mark.parametrize("settings", [{}, {"snapshot_at": (100, 249)}, {"snapshot_at": (250,), "keep_state": True}])
def test_a_pool_of_one_block_answers_what_fits_into_it(model, tokenizer, settings):
    wanted = requests(3, max_tokens=5, **settings)
    _, expected = run(Engine(model, tokenizer), wanted)
    engine = Engine(model, tokenizer, max_blocks=1)
    for _ in range(2):  # the second time from what is still kept, if anything
        assert run(engine, wanted)[1] == expected


def test_a_prompt_larger_than_the_pool_is_refused_at_once_with_the_numbers(model, tokenizer):
    engine = Engine(model, tokenizer, max_blocks=1)
    small, large = requests(1, max_tokens=3)[0], Request(prompts(1, 300)[0])
    with pytest.raises(MemoryFitError, match="300 tokens and needs 2 blocks of 256; the key/value cache has 1"):
        engine.submit(large)
    with pytest.raises(MemoryFitError):
        next(engine.generate([small, large]))
    assert engine.is_idle
    assert len(run(engine, [small])[1][0]) == 3


def test_rows_that_do_not_fit_together_all_end(model, tokenizer):
    _, expected = run(Engine(model, tokenizer), requests(3, max_tokens=20))
    engine = Engine(model, tokenizer)
    ids = [engine.submit(request) for request in requests(3, max_tokens=20)]
    events = [event for _ in range(5) for event in engine.step()]
    engine.states.pool.max_blocks = 4  # each needs two in the end
    events += engine.events(ids)
    found = [[e.token_id for e in events if isinstance(e, TokenEvent) and e.request_id == id_] for id_ in ids]
    assert found == expected
    assert any(isinstance(event, Parked) for event in events)


def test_a_row_that_outgrows_the_pool_ends_alone(model, tokenizer):
    engine = Engine(model, tokenizer, max_blocks=2)
    growing = Request(prompts(1, 500)[0], SAMPLED, max_tokens=20, ignore_stop_ids=True)
    ids = [engine.submit(request) for request in (growing, *requests(2, max_tokens=9))]
    events = list(engine.events(ids))
    ends = {e.request_id: type(e) for e in events if isinstance(e, (Failed, Finished))}
    assert ends == {0: Failed, 1: Finished, 2: Finished}
    engine.prefixes.clear()
    assert engine.states.pool.blocks_in_use == 0


def test_a_prefix_that_is_about_to_be_used_is_not_forgotten_for_its_own_prompt(model, tokenizer):
    engine = Engine(model, tokenizer, max_blocks=5)
    (kept,) = keeping()[:1]
    longer = [*kept.ids, *run(engine, [kept])[1][0], *[301] * 198]
    long = engine.submit(requests(1, max_tokens=40)[0])
    engine.step()
    waiting = engine.submit(Request(longer, SAMPLED, max_tokens=2))  # two blocks, the first of which is kept
    events = list(engine.events([long, waiting]))
    stats = {event.request_id: event.stats for event in events if isinstance(event, Finished)}
    assert stats[waiting].cached_tokens == 301


def test_no_prefix_is_forgotten_in_vain(model, tokenizer):
    engine = Engine(model, tokenizer, max_blocks=5)
    (kept,) = keeping()[:1]
    answer = run(engine, [kept])[1][0]
    long = engine.submit(Request(prompts(2, 200)[1], SAMPLED, max_tokens=9, ignore_stop_ids=True))
    engine.step()
    # Three blocks are too many beside the row that runs, and not too many when it has ended.
    waiting = engine.submit(Request([303] * 520, SAMPLED, max_tokens=2))
    assert len([event for event in engine.events([long, waiting]) if isinstance(event, Finished)]) == 2
    assert engine.prefixes.beginnings_of([*kept.ids, *answer])


@pytest.mark.parametrize("bound", [None, 9])
def test_while_blocks_are_left_those_of_kept_prefixes_are_not_counted(model, tokenizer, monkeypatch, bound):
    engine = Engine(model, tokenizer, max_blocks=bound)
    run(engine, keeping()[:1])
    monkeypatch.setattr(engine.prefixes, "blocks_alone", lambda: pytest.fail("counted for nothing"))
    _, found = run(engine, requests(2, max_tokens=5))
    assert [len(tokens) for tokens in found] == [5, 5]


def test_a_prompt_that_waits_for_blocks_is_taken_up_again_only_when_something_has_changed(
    model, tokenizer, monkeypatch
):
    engine = Engine(model, tokenizer, max_blocks=3)
    long = engine.submit(requests(1, max_tokens=200)[0])  # one block, then two
    engine.step()
    taken_up = Mock(wraps=engine.prefixes.deepest)
    monkeypatch.setattr(engine.prefixes, "deepest", taken_up)
    waiting = engine.submit(Request([303] * 560, SAMPLED, max_tokens=2, ignore_stop_ids=True))
    events = list(engine.events([long, waiting]))
    ended = [event.request_id for event in events if isinstance(event, Finished)]
    assert ended == [long, waiting]
    assert taken_up.call_count == 3  # at once, when the other has its second block, and when that has ended


def test_a_parked_row_looks_for_room_again_only_when_something_has_changed(model, tokenizer, monkeypatch):
    engine = Engine(model, tokenizer, max_blocks=4)
    ids = [engine.submit(request) for request in requests(3)]
    counted = Mock(wraps=engine.prefixes.blocks_alone)
    monkeypatch.setattr(engine.prefixes, "blocks_alone", counted)
    steps = 0
    while not engine.is_idle:
        engine.step()
        steps += 1
    assert len(ids) == 3 and steps > 275
    assert 0 < counted.call_count < 30
