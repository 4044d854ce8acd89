"""Laws of what the Engine tells of itself: rows and counters are what has happened, and do not change afterwards."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from tests.core.engine.test_engine import PLAIN, ask, finished, run, thinking_prompt
from zaya_core.engine.engine import Engine
from zaya_core.engine.events import Finished, Stats


@pytest.fixture
def engine(model, tokenizer):
    return Engine(model, tokenizer, chunk=16, max_rows=2, max_blocks=8)


def states(engine):
    return {view.request_id: view.state for view in engine.rows()}


def test_a_row_is_shown_in_each_state_with_its_positions(engine):
    ids = [engine.submit(ask(PLAIN[: 20 + n], max_tokens=9)) for n in range(3)]
    assert states(engine) == dict.fromkeys(ids, "waiting")
    engine.step()
    (first, *_) = engine.rows()
    assert (first.state, first.prompt_tokens, first.position, first.generated) == ("prefilling", 20, 16, 0)
    while states(engine)[ids[1]] != "running":
        engine.step()
    assert states(engine) == dict(zip(ids, ["running", "running", "waiting"], strict=True))
    before = engine.rows()
    assert before[0].position == 20 + before[0].generated - 1
    assert before[0].max_tokens == 9 and not before[0].is_thinking
    engine.step()
    assert engine.rows() != before
    with pytest.raises(FrozenInstanceError):
        before[0].generated = 3  # type: ignore[misc]
    list(engine.events(ids))
    assert engine.rows() == ()


def test_a_thinking_row_shows_its_thought_and_its_budget(engine, tokenizer):
    engine.submit(ask(thinking_prompt(tokenizer), thinking_budget=3, max_tokens=20))
    seen = set()
    while not engine.is_idle:
        engine.step()
        seen |= {
            (view.generated, view.thinking_tokens, view.is_thinking, view.thinking_budget) for view in engine.rows()
        }
    assert {(2, 2, True, 3), (4, 4, False, 3), (9, 4, False, 3)} <= seen


def test_counters_count_what_was_computed_and_generated(engine):
    assert engine.counters.blocks_total == 8
    rows = run(engine, *[ask(candidate=n, max_tokens=5) for n in range(3)])
    counters = engine.counters
    assert (counters.waiting, counters.prefilling, counters.running, counters.parked) == (0, 0, 0, 0)
    stats = [finished(events).stats for events in rows]
    assert counters.prompt_tokens == sum(s.prefilled_tokens for s in stats) == len(PLAIN)
    assert counters.cached_tokens == sum(s.cached_tokens for s in stats) == 2 * len(PLAIN)
    assert counters.generated_tokens == sum(s.completion_tokens for s in stats) == 15
    assert counters.steps > 5
    assert (counters.prefixes, counters.prefix_blocks, counters.blocks_used) == (1, 1, 1)
    engine.prefixes.clear()
    assert (engine.counters.prefix_blocks, engine.counters.blocks_used) == (0, 0)


def test_an_engine_without_a_bound_says_so(model, tokenizer):
    assert Engine(model, tokenizer).counters.blocks_total is None


def test_queue_seconds_end_when_the_prompt_begins_and_first_token_seconds_include_them(engine, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("zaya_core.engine.row.time.perf_counter", lambda: clock[0])
    first = engine.submit(ask(PLAIN[:20], max_tokens=3))
    waited = [engine.submit(ask(PLAIN[:20][::-1], max_tokens=3)) for _ in range(2)]
    cancelled = engine.submit(ask(PLAIN))
    ends: dict[int, Stats] = {}
    while not engine.is_idle:
        clock[0] += 1.0
        if clock[0] == 3.0:
            engine.cancel(cancelled)
        ends |= {event.request_id: event.stats for event in engine.step() if isinstance(event, Finished)}
    assert ends[first].queue_seconds == 1.0
    assert ends[waited[1]].queue_seconds > ends[waited[0]].queue_seconds > 1.0
    assert all(ends[id_].seconds_to_first_token >= ends[id_].queue_seconds for id_ in (first, *waited))
    assert (ends[cancelled].queue_seconds, ends[cancelled].seconds_to_first_token) == (3.0, 0.0)


def test_a_prompt_that_waits_again_was_in_the_queue_once(engine, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("zaya_core.engine.row.time.perf_counter", lambda: clock[0])
    request = engine.submit(ask())
    clock[0] = 2.0
    engine.step()
    (row,) = engine._prefilling
    engine._wait_again(row)
    clock[0] = 9.0
    events = list(engine.events([request]))
    assert finished(events).stats.queue_seconds == 2.0
