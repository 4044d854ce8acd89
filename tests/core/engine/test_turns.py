"""Laws of whose turn it is: short prompts pass long ones within a bound, groups have their most, deadlines end."""

from __future__ import annotations

import random

import pytest

from tests.core.engine.test_engine import PLAIN, ask, finished, run, tokens
from zaya_core.engine.engine import _SHORT, Engine
from zaya_core.engine.events import Finished, PrefillProgress, TokenEvent

CHUNK = 8
LONG = [300 + n % 90 for n in range(400)]


def engine_of(model, tokenizer, **settings):
    return Engine(model, tokenizer, **{"chunk": CHUNK, "max_rows": 32, **settings})


def worked(engine):
    """One step: whose prompt it computed a chunk of, if it did, and its events."""
    events = engine.step()
    owners = [event.request_id for event in events if isinstance(event, PrefillProgress)]
    return (owners[0] if owners else None), events


def done(engine):
    """Work until the Engine is idle: owners of chunks in order, and events by request."""
    owners: list[int] = []
    found: dict[int, list] = {}
    while not engine.is_idle:
        owner, events = worked(engine)
        owners += [] if owner is None else [owner]
        for event in events:
            found.setdefault(event.request_id, []).append(event)
    return owners, found


def test_a_short_prompt_takes_turns_with_a_long_one(model, tokenizer):
    engine = engine_of(model, tokenizer)
    long = engine.submit(ask(LONG, max_tokens=1))
    for _ in range(4):
        worked(engine)
    short = engine.submit(ask(PLAIN[:24][::-1], max_tokens=1))
    owners, found = done(engine)
    assert owners[:6] == [short, long, short, long, short, long]
    assert finished(found[short]).reason == finished(found[long]).reason == "length"


@pytest.mark.parametrize("seed", range(3))
def test_every_prompt_is_computed_within_its_bound(model, tokenizer, seed):
    """Prompts of 1 to 40 chunks that come at any time."""
    chance, engine = random.Random(seed), engine_of(model, tokenizer)
    bounds: dict[int, int] = {}  # by request: chunks of anybody after which it must have been computed
    begun: dict[int, int] = {}
    chunks: dict[int, int] = {}
    steps = 0
    for number in range(400):
        if number < 120 and chance.random() < 0.25:
            count = chance.choice([1, 1, 2, _SHORT, _SHORT + 1, 12, 40])
            request = ask([400 + len(chunks), *LONG[: CHUNK * count - 1]], max_tokens=2)
            ahead = [view.request_id for view in engine.rows() if view.state == "waiting"]
            id_ = engine.submit(request)
            chunks[id_] = count
            if count <= _SHORT:
                shorts = sum(chunks[other] <= _SHORT for other in ahead) + 1
                bounds[id_] = steps + 2 * _SHORT * (shorts + 1)
        owner, _ = worked(engine)
        if owner is not None:
            steps += 1
            begun.setdefault(owner, steps - 1)
            bounds.setdefault(owner, begun[owner] + 2 * chunks[owner])
        open_prompts = {view.request_id for view in engine.rows() if view.state in ("waiting", "prefilling")}
        assert all(steps <= bounds[id_] for id_ in open_prompts & set(bounds)), (number, bounds, steps)
    assert len(chunks) > 15
    done(engine)


def test_prompts_of_a_kind_keep_their_order(model, tokenizer):
    for count in (1, _SHORT, _SHORT + 3):
        engine = engine_of(model, tokenizer)
        ids = [engine.submit(ask([400 + n, *LONG[: CHUNK * count - 1]], max_tokens=1)) for n in range(4)]
        owners, _ = done(engine)
        assert owners == [id_ for id_ in ids for _ in range(count)]


def test_a_short_prompt_waits_for_the_beginning_that_it_shares_with_a_long_one(model, tokenizer):
    engine = engine_of(model, tokenizer)
    long = engine.submit(ask(LONG[:200], max_tokens=1))
    short = engine.submit(ask([*LONG[:20], 500, 501], max_tokens=1))
    owners, found = done(engine)
    assert finished(found[short]).stats.cached_tokens == 20
    assert owners.index(short) == 3  # two chunks, and the rest of the beginning
    assert owners.count(long) == 26


def test_what_is_left_of_a_prompt_counts_and_not_what_is_kept(model, tokenizer):
    engine = engine_of(model, tokenizer)
    (kept,) = run(engine, ask(LONG[:150], max_tokens=2, keep_state=True))
    long = engine.submit(ask(LONG[::-1], max_tokens=1))
    talk = engine.submit(ask([*LONG[:150], *tokens(kept), 500], max_tokens=1))
    owners, _ = done(engine)
    assert owners[:3] == [long, talk, long]


@pytest.mark.parametrize("blocks", [2, 3, 4, 5])
def test_answers_are_the_same_however_few_blocks_there_are(model, tokenizer, blocks):
    requests = [
        ask([400 + n, *LONG[: length - 1]], max_tokens=6) for n, length in enumerate((380, 20, 9, 300, 30, 200))
    ]
    alone = [tokens(run(engine_of(model, tokenizer), request)[0]) for request in requests]
    engine = engine_of(model, tokenizer, max_blocks=blocks)
    assert [tokens(events) for events in run(engine, *requests)] == alone
    engine.prefixes.clear()
    assert engine.states.pool.blocks_in_use == 0


@pytest.mark.parametrize("cancelled", ["long", "short"])
def test_cancelling_one_of_two_prompts_leaves_the_other(model, tokenizer, cancelled):
    engine = engine_of(model, tokenizer)
    ids = {"long": engine.submit(ask(LONG, max_tokens=2)), "short": engine.submit(ask(PLAIN[:30], max_tokens=2))}
    while len(engine._prefilling) < 2:
        engine.step()
    engine.cancel(ids[cancelled])
    _, found = done(engine)
    reasons = {name: finished(found[id_]).reason for name, id_ in ids.items()}
    assert reasons.pop(cancelled) == "cancelled"
    assert [*reasons.values()] == ["length"]


def test_no_more_rows_run_than_may(model, tokenizer):
    engine = engine_of(model, tokenizer, max_rows=2)
    engine.submit(ask(LONG, max_tokens=9))
    for n in range(5):
        engine.submit(ask([400 + n, *PLAIN[:20]], max_tokens=30))
    most = 0
    while not engine.is_idle:
        engine.step()
        most = max(most, engine.counters.running + engine.counters.prefilling)
    assert most == 2


def test_a_group_has_its_most_at_work_and_others_go_first(model, tokenizer):
    engine = engine_of(model, tokenizer)
    grouped = [engine.submit(ask([400 + n, *PLAIN], group="rsa", group_rows=2, max_tokens=40)) for n in range(5)]
    other = engine.submit(ask(PLAIN[:20], max_tokens=1))
    ended, most = [], 0
    while not engine.is_idle:
        ended += [event.request_id for event in engine.step() if isinstance(event, Finished)]
        at_work = [view.request_id for view in engine.rows() if view.state != "waiting"]
        most = max(most, len([id_ for id_ in at_work if id_ in grouped]))
    assert most == 2
    assert sorted(ended) == sorted([*grouped, other])
    assert ended.index(other) < ended.index(grouped[2])


def test_groups_do_not_count_for_each_other(model, tokenizer):
    engine = engine_of(model, tokenizer)
    for n, group in enumerate("abc"):
        engine.submit(ask([400 + n, *PLAIN[:9]], group=group, group_rows=1, max_tokens=40))
    most = 0
    while not engine.is_idle:
        engine.step()
        most = max(most, engine.counters.running)
    assert most == 3


@pytest.mark.parametrize("seconds", [3.5, 40.5, 75.5])
def test_a_deadline_ends_a_request_wherever_it_is_and_no_other(model, tokenizer, monkeypatch, seconds):
    """In the queue, in the prompt, in the answer; what was said stands."""
    clock = [0.0]
    monkeypatch.setattr("zaya_core.engine.row.time.perf_counter", lambda: clock[0])
    engine = engine_of(model, tokenizer, max_rows=1)
    first = engine.submit(ask(PLAIN[:20], max_tokens=9))
    late = engine.submit(ask(LONG, deadline_seconds=seconds, max_tokens=150))
    after = engine.submit(ask(PLAIN, max_tokens=3, deadline_seconds=1e6))
    found: dict[int, list] = {}
    while not engine.is_idle:
        clock[0] += 1.0
        for event in engine.step():
            found.setdefault(event.request_id, []).append(event)
    assert [finished(found[id_]).reason for id_ in (first, late, after)] == ["length", "timeout", "length"]
    assert any(isinstance(event, TokenEvent) for event in found[late]) == (seconds == 75.5)
    engine.prefixes.clear()
    assert engine.states.pool.blocks_in_use == 0


def test_a_deadline_is_seen_between_the_layers_of_a_chunk(model, tokenizer, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("zaya_core.engine.row.time.perf_counter", lambda: clock[0])
    engine = Engine(model, tokenizer)
    engine.submit(ask(LONG, deadline_seconds=5.0))
    project, layers = model.steps.project, []

    def slow(layer, residual, pass_):
        clock[0] += 6.0
        layers.append(layer)
        return project(layer, residual, pass_)

    monkeypatch.setattr(model.steps, "project", slow)
    (event,) = engine.step()
    assert isinstance(event, Finished)
    assert (event.reason, layers) == ("timeout", [0])
    assert engine.is_idle
