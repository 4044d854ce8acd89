"""Laws of what may be asked: all of it is checked by `submit`, and nothing has changed when it is refused."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from tests.core.engine.test_engine import PLAIN, ask, run, tokens
from zaya_core.engine import request
from zaya_core.engine.engine import Engine, Request
from zaya_core.errors import UsageError
from zaya_core.whole_numbers import as_whole

WRONG: dict[str, list[Any]] = {
    "ids": [(), [], 5, None, "abc", b"abc", {300}, [300, -1], [300, 1 << 40], [300.0], [True, 300], ["300"], [None]],
    "begun": [None, "a", [-1], [0.5], [False]],
    "sampling": [None, 0.7, {"temperature": 1}],
    "max_tokens": [0, -1, 1.5, True, "3", float("nan")],
    "thinking_budget": [-1, 0.5, False, "1"],
    "answer_budget": [-1, 0.5, True],
    "top_logprobs": [-1, True, 1.0, 1 << 40, None, "2"],
    "stage": [-1, 1 << 64, 0.0, True, None],
    "candidate": [-1, 1 << 64, 1.5, False, "1"],
    "stop": ["abc", ("",), ("a", ""), (1,), (None,), None, ("a",) * 1000, ("a" * 100_000,), b"a"],
    "snapshot_at": [(-1,), (0,), (len(PLAIN) + 1,), (1.5,), (True,), 3, None, "12", (1 << 70,)],
    "keep_state": [None, 1, "no"],
    "ignore_stop_ids": [None, 0],
    "logit_bias": [
        None,
        [(1, 2)],
        {-1: 1},
        {1 << 40: 1},
        {"5": 1},
        {5.0: 1},
        {True: 1},
        {5: 101},
        {5: -100.5},
        {5: None},
        {5: "1"},
        {5: True},
        {5: float("nan")},
        {5: float("inf")},
        dict.fromkeys(range(1025), 1),
    ],
    "stop_in_thinking": [None, "", "End", True, ["end"], 1],
    "salt": [None, 1, bytearray(b"a"), ["a"], "a" * 1001, b"a" * 1001],
    "prompt_logprobs": [-1, 21, True, 1.0, "2", 1 << 70],
    "group": [None, b"a", 1, "a" * 1001],
    "group_rows": [1, 0, -1, True, 1.0, "1"],  # also of no group
    "deadline_seconds": [0, -1, 0.0, True, "5", float("nan"), float("inf")],
}


@pytest.fixture
def engine(model, tokenizer):
    return Engine(model, tokenizer, chunk=16)


def test_every_field_has_wrong_values_here():
    assert set(WRONG) == {field.name for field in fields(Request)}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_field_is_refused_by_name_and_harms_nobody(engine, name, value):
    wrong = replace(ask(), **{name: value})
    with pytest.raises(UsageError) as refused:
        engine.submit(wrong)
    assert len(str(refused.value)) < 300
    assert engine.is_idle
    with pytest.raises(UsageError):
        next(engine.generate([ask(), wrong]))
    assert engine.is_idle


def test_something_else_than_a_request_is_refused(engine):
    for wrong in (None, PLAIN, {"ids": PLAIN}):
        with pytest.raises(UsageError, match="Request"):
            engine.submit(wrong)


@pytest.mark.parametrize(
    "settings", [{name: v} for name in ("max_rows", "chunk") for v in (0, -1, True, 2.0, None, "4")]
)
def test_an_engine_of_no_rows_or_no_chunk_is_refused(model, tokenizer, settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        Engine(model, tokenizer, **settings)


@pytest.mark.parametrize("context", [0, 1, -5, 601, True, 50.0, "50", float("nan")])
def test_a_context_that_the_model_does_not_have_is_refused(model, tokenizer, context):
    with pytest.raises(UsageError, match="context"):
        Engine(model, tokenizer, context=context)


def test_ids_may_be_any_sequence_of_whole_numbers(engine):
    numpy = pytest.importorskip("numpy")
    (expected,) = run(engine, ask())
    for ids in (
        tuple(PLAIN),
        range(300, 340),
        torch.tensor(PLAIN),
        numpy.array(PLAIN),
        [numpy.int32(id_) for id_ in PLAIN],
    ):
        (events,) = run(engine, ask(ids, max_tokens=numpy.int64(12), snapshot_at=[30, 20, 20]))
        assert tokens(events) == tokens(expected)
    for ids in (torch.tensor([PLAIN]), torch.tensor([1.0]), torch.tensor([True]), numpy.array([True]), torch.tensor(3)):
        with pytest.raises(UsageError):
            engine.submit(ask(ids))


@pytest.mark.parametrize("make", [list, tuple, torch.tensor])
def test_plain_ids_are_not_looked_at_one_by_one(engine, monkeypatch, make):
    whole = Mock(wraps=as_whole)
    monkeypatch.setattr(request, "as_whole", whole)
    engine.submit(ask(make([555] * 500), begun=make([556] * 50)))
    assert not {555, 556} & {call.args[0] for call in whole.call_args_list}


def test_one_id_that_is_none_is_found_among_plain_ones(engine):
    for wrong in (True, 1.0, None, "1"):
        with pytest.raises(UsageError, match="whole numbers"):
            engine.submit(ask([*PLAIN, wrong, *PLAIN]))


def test_what_the_caller_does_to_its_list_afterwards_changes_nothing(engine):
    (expected,) = run(engine, ask())
    ids = list(PLAIN)
    engine.submit(ask(ids))
    ids.clear()
    events = [event for _ in range(20) for event in engine.step()]
    assert tokens(events) == tokens(expected)


def test_the_ends_of_the_ranges_are_allowed(engine):
    most = (1 << 64) - 1
    (events,) = run(
        engine, ask(stage=most, candidate=most, snapshot_at=(1, len(PLAIN)), top_logprobs=1000, thinking_budget=0)
    )
    assert tokens(events)
