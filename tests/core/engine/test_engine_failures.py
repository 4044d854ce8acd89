"""Laws of failure: what fails ends the requests it was done for, with an event, and no others."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

from tests.core.cache.test_parking import prompts
from tests.core.engine.test_engine import PLAIN, ask, finished, run, tokens
from zaya_core.cache.parking import ParkedCache
from zaya_core.engine.engine import Engine
from zaya_core.engine.events import Event, Failed, Finished, Parked
from zaya_core.errors import CheckpointError
from zaya_core.sampling import draw

OTHERS = [ask(PLAIN[:9]), ask(PLAIN[3:30], max_tokens=30)]
FAULTS = [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory"), ValueError("a bug")]
BAD = ask(PLAIN[::-1])


class FailingModel:
    """The model, with something else in place of the passes that `fails` names."""

    def __init__(self, model, fails, instead):
        self._model, self._fails, self._instead = model, fails, instead

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, ids, cache, **settings):
        if self._fails(ids, cache):
            return self._instead(lambda: self._model(ids, cache, **settings))
        return self._model(ids, cache, **settings)


Failing: Any = FailingModel  # it stands for a ZayaModel


def raising(error):
    def instead(_):
        raise error

    return instead


def is_bad_prompt(ids, cache):
    return len(ids) == 1 and PLAIN[-1] in ids[0, :1]  # its first chunk, or a row alone that has just that token


@pytest.fixture
def alone(model, tokenizer):
    return [tokens(run(Engine(model, tokenizer, chunk=16), request)[0]) for request in OTHERS]


def work(engine, *requests):
    """Events by request, to the end of all."""
    ids = [engine.submit(request) for request in requests]
    events = list(engine.events(ids))
    return [[event for event in events if event.request_id == id_] for id_ in ids]


def failure(events):
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, (Failed, Finished)) for event in events[:-1])
    return events[-1].error


def assert_gave_back(engine):
    assert engine.is_idle
    engine.prefixes.clear()
    assert engine.states.pool.blocks_in_use == 0


@pytest.mark.parametrize("error", FAULTS)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_prompt_that_fails_fails_alone(model, tokenizer, alone, error, place):
    engine = Engine(Failing(model, is_bad_prompt, raising(error)), tokenizer, chunk=16)
    requests = [*OTHERS[:place], BAD, *OTHERS[place:]]
    found = work(engine, *requests)
    assert failure(found.pop(place)) is error
    assert [tokens(events) for events in found] == alone
    assert_gave_back(engine)


@pytest.mark.parametrize("error", FAULTS)
def test_a_step_of_the_batch_that_fails_ends_those_that_run(model, tokenizer, error):
    passes = iter([True])
    failing = Failing(model, lambda ids, _: len(ids) == 2 and next(passes, False), raising(error))
    engine = Engine(failing, tokenizer, max_rows=2, chunk=16)
    *running, waiting = work(engine, *OTHERS, BAD)
    assert [failure(events) for events in running] == [error, error]
    assert tokens(waiting) == tokens(run(Engine(model, tokenizer, chunk=16), BAD)[0])
    assert_gave_back(engine)


def crowd(model, tokenizer):
    """An Engine with three rows that run, for whose next blocks there is no room, and their events so far."""
    engine = Engine(model, tokenizer)
    for prompt in prompts(3):
        engine.submit(ask(prompt, max_tokens=20))
    events = [event for _ in range(5) for event in engine.step()]
    assert len(engine._running) == 3
    engine.states.pool.max_blocks = 4
    return engine, events


def test_parked_rows_go_on_when_those_that_run_fail(model, tokenizer):
    failing = Failing(model, lambda *_: False, raising(MemoryError()))
    engine, events = crowd(failing, tokenizer)
    while not any(isinstance(event, Parked) for event in events) and not engine.is_idle:
        events += engine.step()
    failing._fails = lambda *_: True
    events += engine.step()
    failing._fails = lambda *_: False
    events += list(engine.events(range(3)))
    by_end = {kind: {e.request_id for e in events if isinstance(e, kind)} for kind in (Failed, Finished, Parked)}
    assert by_end[Failed] and not by_end[Failed] & by_end[Parked]
    assert by_end[Failed] | by_end[Finished] == {0, 1, 2}
    assert by_end[Parked] <= by_end[Finished]
    assert_gave_back(engine)


def test_logits_that_are_no_numbers_end_their_row_alone(model, tokenizer, alone):
    def spoil(go_on):
        logits = go_on()
        logits[0, 0, 5] = float("nan")
        return logits

    failing = Failing(model, lambda ids, _: len(ids) == 3, spoil)
    found = work(Engine(failing, tokenizer, chunk=16), BAD, *OTHERS)
    assert isinstance(failure(found[0]), CheckpointError)
    assert [tokens(events) for events in found[1:]] == alone
    assert_gave_back(Engine(failing, tokenizer))


def test_a_state_that_gives_no_numbers_is_not_kept(model, tokenizer):
    spoilt = Failing(model, is_bad_prompt, lambda go_on: go_on() * float("nan"))
    engine = Engine(spoilt, tokenizer, chunk=16)
    request = ask(BAD.ids, snapshot_at=(10, 30), keep_state=True)
    (events,) = work(engine, request)
    assert isinstance(failure(events), CheckpointError)
    assert not engine.prefixes.beginnings_of(BAD.ids)
    spoilt._fails = lambda *_: False
    (events,) = work(engine, request)
    assert tokens(events) == tokens(run(Engine(model, tokenizer, chunk=16), BAD)[0])


def test_what_is_no_number_in_one_row_s_state_reaches_no_other(model, tokenizer, alone):
    """Neither while they run together nor by the blocks that it leaves."""
    engine = Engine(model, tokenizer, chunk=16)
    bad = engine.submit(BAD)
    events = engine.step() + engine.step() + engine.step()
    assert tokens(events)
    (row,) = engine._running
    (block,) = engine._running.tables_of(row)[0].blocks
    with torch.inference_mode():
        for storage in (storage for layers in engine.states.pool.tensors.values() for storage in layers):
            storage[block] = float("nan")
    ids = [engine.submit(request) for request in OTHERS]
    events = list(engine.events([bad, *ids]))
    assert isinstance(failure([event for event in events if event.request_id == bad]), CheckpointError)
    assert [tokens([event for event in events if event.request_id == id_]) for id_ in ids] == alone
    assert [tokens(events) for events in run(engine, *OTHERS)] == alone


@pytest.mark.parametrize("owner", ["sampler", "detokenizer"])
def test_a_sampler_or_detokenizer_that_fails_ends_its_row_alone(model, tokenizer, alone, monkeypatch, owner):
    error = KeyError("no such piece")
    engine = Engine(model, tokenizer, chunk=16)
    bad = engine.submit(ask(BAD.ids, max_tokens=500, candidate=7))
    ids = [engine.submit(request) for request in OTHERS]
    events = [event for _ in range(8) for event in engine.step()]
    (row,) = [row for row in engine._running if row.id == bad]
    if owner == "sampler":
        sampled = draw.draw_row
        monkeypatch.setattr(
            draw, "draw_row", lambda *of: raising(error)(None) if of[2].key.candidate == 7 else sampled(*of)
        )
    else:
        monkeypatch.setattr(row._splitter, "push", lambda *_: raising(error)(None))
    events += list(engine.events([bad, *ids]))
    assert failure([event for event in events if event.request_id == bad]) is error
    assert [tokens([event for event in events if event.request_id == id_]) for id_ in ids] == alone
    assert_gave_back(engine)


def test_a_row_that_cannot_say_what_to_draw_by_ends_alone(model, tokenizer, alone, monkeypatch):
    engine = Engine(model, tokenizer, chunk=16)
    bad = engine.submit(ask(BAD.ids, max_tokens=500))
    ids = [engine.submit(request) for request in OTHERS]
    events = [event for _ in range(8) for event in engine.step()]
    (row,) = [row for row in engine._running if row.id == bad]
    monkeypatch.setattr(row, "next_draw", lambda: 1 / 0)
    events += list(engine.events([bad, *ids]))
    assert isinstance(failure([event for event in events if event.request_id == bad]), ZeroDivisionError)
    assert [tokens([event for event in events if event.request_id == id_]) for id_ in ids] == alone
    assert_gave_back(engine)


def test_an_engine_that_is_gone_leaves_no_keys_and_values(model, tokenizer):
    engine = Engine(model, tokenizer)
    run(engine, OTHERS[0])
    pool = weakref.ref(engine.states.pool)
    del engine
    gc.collect()
    assert pool() is None


def test_a_prefix_of_another_engine_is_refused(model, tokenizer):
    one, other = Engine(model, tokenizer), Engine(model, tokenizer)
    run(one, ask(PLAIN, snapshot_at=(20,), max_tokens=1))
    (prefix,) = one.prefixes.beginnings_of(PLAIN[:25])
    with pytest.raises(ValueError, match="another Engine or model"):
        other.prefixes.add(prefix)


def test_a_cancelled_row_whose_text_fails_has_one_end_all_the_same(model, tokenizer, monkeypatch):
    engine = Engine(model, tokenizer)
    bad, good = engine.submit(BAD), engine.submit(OTHERS[0])
    row = next(row for row in engine._waiting if row.id == bad)
    monkeypatch.setattr(row._splitter, "flush", lambda: 1 / 0)
    engine.cancel(bad, good)
    failed, ended = engine.step()
    assert isinstance(failed, Failed) and isinstance(failed.error, ZeroDivisionError)
    assert isinstance(ended, Finished)
    assert engine.is_idle


def test_a_row_that_cannot_be_parked_fails_and_the_others_go_on(model, tokenizer, monkeypatch):
    def no_memory(cache):
        raise MemoryError

    monkeypatch.setattr(ParkedCache, "of", no_memory)
    engine, events = crowd(model, tokenizer)
    events += list(engine.events(range(3)))
    ends = {event.request_id: type(event) for event in events if isinstance(event, (Failed, Finished))}
    assert ends == {0: Finished, 1: Failed, 2: Failed} or ends == {0: Finished, 1: Finished, 2: Failed}
    assert_gave_back(engine)


@pytest.mark.parametrize("passes", [1, 3, 8])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_is_no_error_passes_through_and_leaves_an_idle_engine(model, tokenizer, alone, passes, kind):
    left = iter([False] * passes)
    failing = Failing(model, lambda *_: next(left, True), raising(kind()))
    engine = Engine(failing, tokenizer, chunk=16)
    for request in OTHERS:
        engine.submit(request)
    with pytest.raises(kind):
        list(engine.events(range(2)))
    assert_gave_back(engine)
    failing._fails = lambda *_: False
    assert [tokens(events) for events in run(engine, *OTHERS)] == alone


def test_an_error_that_is_kept_holds_no_blocks(model, tokenizer):
    def fail_behind(go_on):
        go_on()
        raise RuntimeError("out of memory")

    engine = Engine(Failing(model, lambda *_: True, fail_behind), tokenizer)
    kept = work(engine, BAD)
    assert kept[0][-1].error.__traceback__ is not None
    assert engine.states.pool.blocks_in_use == 0


def raised_from_itself(first, second):
    raise first from first


def raised_from_each_other(first, second):
    try:
        raise second from first
    except ValueError:
        raise first from second


def raised_from_another_than_was_met(first, second):
    try:
        raise second
    except ValueError:
        raise first from KeyError()


CHAINS = [raised_from_itself, raised_from_each_other, raised_from_another_than_was_met]


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.__name__)
def test_of_errors_that_lead_to_one_another_each_gives_its_blocks_back(model, tokenizer, chain):
    def hold_blocks_and_fail():
        (row,) = engine._prefilling
        assert row.cache is not None
        held = row.cache.fork(1)
        raise ValueError(f"holds {held.tables[0].blocks}")

    def fail_behind(go_on):
        go_on()
        errors = []
        for _ in range(2):
            try:
                hold_blocks_and_fail()
            except ValueError as error:
                errors.append(error)
        chain(errors[0], errors[1])

    engine = Engine(Failing(model, lambda *_: True, fail_behind), tokenizer)
    (events,) = work(engine, BAD)
    assert "holds" in str(failure(events))
    assert engine.states.pool.blocks_in_use == 0


def test_generate_raises_what_failed_first_when_all_others_have_ended(model, tokenizer, alone):
    error = MemoryError()
    engine = Engine(Failing(model, is_bad_prompt, raising(error)), tokenizer, chunk=16)
    seen: list[Event] = []
    with pytest.raises(MemoryError):
        seen.extend(engine.generate([BAD, *OTHERS]))
    assert {type(event) for event in seen if isinstance(event, (Failed, Finished))} == {Failed, Finished}
    assert [tokens([event for event in seen if event.request_id == id_]) for id_ in (1, 2)] == alone
    assert finished([event for event in seen if event.request_id == 2]).reason == "length"


def test_a_block_whose_copy_fails_is_given_back(model, monkeypatch):
    pool, cache = model.states.pool, model.new_cache()
    with torch.inference_mode():
        model(torch.tensor([PLAIN]), cache)
        other = cache.fork(1)
        used = pool.blocks_in_use
        monkeypatch.setattr(pool, "copy", lambda *_: raising(KeyboardInterrupt())(None))
        with pytest.raises(KeyboardInterrupt):
            model(torch.tensor([[5]]), cache)
    assert pool.blocks_in_use == used
    assert cache.tables[0].blocks == other.tables[0].blocks


@pytest.mark.parametrize("room", [1, 2])
def test_a_card_without_room_for_a_step_of_all_rows_runs_fewer_at_once(model, tokenizer, room):
    """The youngest wait in host memory, and nobody's answer is another for it."""
    requests = [*OTHERS, ask(PLAIN[2:17], max_tokens=9)]
    expected = [tokens(run(Engine(model, tokenizer), request)[0]) for request in requests]
    full = Failing(model, lambda ids, cache: len(ids) > room, raising(torch.OutOfMemoryError("CUDA out of memory.")))
    engine = Engine(full, tokenizer)
    events = work(engine, *requests)
    assert [tokens(own) for own in events] == expected
    assert any(isinstance(event, Parked) for own in events for event in own)
    assert engine.max_rows == room


def test_a_card_without_room_for_a_step_of_one_row_ends_it(model, tokenizer):
    full = Failing(model, lambda ids, cache: cache.row_lengths[0] > 12, raising(torch.OutOfMemoryError("full")))
    (events,) = work(Engine(full, tokenizer), OTHERS[0])
    assert isinstance(events[-1], Failed) and isinstance(events[-1].error, torch.OutOfMemoryError)
