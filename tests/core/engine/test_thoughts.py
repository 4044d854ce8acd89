"""Laws of how a thought ends before its budget: when somebody says so, and where a stop id comes in it."""

from __future__ import annotations

import pytest

from tests.core.engine.test_engine import GREEDY, PLAIN, ask, finished, run, text, thinking_prompt, tokens
from zaya_core.engine.engine import Engine
from zaya_core.engine.events import Finished, ThinkingEnded, TokenEvent
from zaya_core.sampling.params import SamplingParams


@pytest.fixture
def engine(model, tokenizer):
    return Engine(model, tokenizer, chunk=16)


def ended_after(engine, request, count, close):
    """Events of a request during which `close` is called after so many tokens."""
    id_, events = engine.submit(request), []
    if count == 0:
        close(id_)
    while not engine.is_idle:
        events += engine.step()
        if count and len(tokens(events)) == count:
            close(id_)
            count = 0
    return events


def thoughts(events):
    return [event for event in events if isinstance(event, ThinkingEnded)]


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(seed=2)])
def test_a_thought_ended_by_hand_is_one_ended_by_its_budget(engine, model, tokenizer, count, sampling):
    prompt = thinking_prompt(tokenizer)
    settings = {"max_tokens": 12, "sampling": sampling}
    (expected,) = run(Engine(model, tokenizer, chunk=16), ask(prompt, thinking_budget=count, **settings))
    found = ended_after(engine, ask(prompt, **settings), count, engine.end_thinking)
    assert tokens(found) == tokens(expected)
    assert text(found, "answer") == text(expected, "answer")
    (thought,) = thoughts(found)
    assert (thought.tokens, thought.was_cut) == (count + 1, True)


def test_a_row_that_does_not_think_and_one_that_is_not_there_go_on(engine):
    (expected,) = run(engine, ask())
    found = ended_after(engine, ask(), 3, lambda id_: engine.end_thinking(id_, 999, -1))
    assert tokens(found) == tokens(expected)
    assert engine.is_idle and not engine._to_close


@pytest.fixture
def stopping(engine, tokenizer, monkeypatch):
    """A stop id that the model chooses as its fifth token, within its thought; the prompt; and what it says without."""
    prompt = thinking_prompt(tokenizer)
    (plain,) = run(engine, ask(prompt, max_tokens=20))
    stop = tokens(plain)[4]
    monkeypatch.setattr(tokenizer, "stop_ids", frozenset({stop}))
    return prompt, tokens(plain)[: tokens(plain).index(stop)]


def test_a_stop_id_in_a_thought_ends_the_request_unless_it_is_said_otherwise(engine, stopping):
    prompt, before = stopping
    (events,) = run(engine, ask(prompt, ignore_stop_ids=False, max_tokens=20))
    assert (tokens(events), finished(events).reason) == (before, "stop")
    assert not text(events, "answer")


def test_a_stop_id_in_a_thought_closes_it_in_its_place(engine, model, tokenizer, stopping):
    prompt, before = stopping
    (forced,) = run(engine, ask(prompt, thinking_budget=len(before), max_tokens=20, ignore_stop_ids=False))
    settings = {"stop_in_thinking": "close", "ignore_stop_ids": False, "max_tokens": 20}
    (events,) = run(engine, ask(prompt, **settings))
    assert tokens(events) == tokens(forced)
    assert tokens(events)[len(before)] == tokenizer.think_end_id
    closed, by_budget = ([e for e in found if isinstance(e, TokenEvent)][len(before)] for found in (events, forced))
    assert closed.logprob == by_budget.logprob  # the model's own, of what stands there
    (thought,) = thoughts(events)
    assert not thought.was_cut
    beside = run(engine, ask(PLAIN), ask(prompt, **settings), ask(prompt[::-1]))
    assert tokens(beside[1]) == tokens(events)


def test_it_closes_one_thought_only(engine, tokenizer, stopping):
    prompt, before = stopping
    begun = [*before, tokenizer.think_end_id, PLAIN[0], tokenizer.think_start_id]
    bias = {next(iter(tokenizer.stop_ids)): 100}
    settings = {"stop_in_thinking": "close", "ignore_stop_ids": False, "logit_bias": bias}
    (events,) = run(engine, ask(prompt, begun=begun, **settings))
    assert [type(event) for event in events if not hasattr(event, "done")] == [Finished]
    assert finished(events).reason == "stop"
    (first,) = run(engine, ask(prompt, **settings))
    assert tokens(first) == [tokenizer.think_end_id]
    assert finished(first).reason == "stop"


def test_stop_ids_that_are_ignored_close_nothing(engine, stopping):
    prompt, _ = stopping
    (plain,) = run(engine, ask(prompt))
    (events,) = run(engine, ask(prompt, stop_in_thinking="close"))
    assert tokens(events) == tokens(plain)
