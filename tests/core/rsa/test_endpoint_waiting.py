"""Silence, pauses, failures of the client's own threads: a run comes to its end, and says what it waits for."""

from __future__ import annotations

import itertools
import threading
from email.utils import formatdate

import pytest

from tests.core.rsa.faulty_server import THOUGHT, Behaviour, event, served
from tests.core.rsa.servers import ONE, QUESTION, SAMPLING, VirtualTime, run
from zaya_core.errors import NetworkError
from zaya_core.rsa import RsaParams, solve
from zaya_core.rsa.endpoint import EndpointGenerator
from zaya_core.rsa.endpoint.conversation import Conversation
from zaya_core.rsa.endpoint.faults import pause_of
from zaya_core.rsa.rollouts import RolloutSilent

pytest.importorskip("openai", reason="the endpoint extra is not installed")
pytestmark = pytest.mark.usefixtures("direct")

TWO = RsaParams(candidates=2, rounds=0, think=50, tail=2, answer=7)


class Ticking(VirtualTime):
    """A clock that moves on whenever the thread that waits looks at it."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def __call__(self):
        self.now += self.step if threading.current_thread() is threading.main_thread() else 0
        return self.now


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr("zaya_core.rsa.endpoint.generator._POLL_SECONDS", 0.01)


# --- silence ----------------------------------------------------------------------------------------------------------


def test_two_minutes_of_silence_are_shown_and_no_fault(tokenizer):
    release, events = threading.Event(), []

    def silent(handler, body):
        handler.begin()
        handler.send(event("one"))
        release.wait(20)
        handler.send(event(" two three", "stop"))

    def take(event):
        events.append(event)
        if isinstance(event, RolloutSilent) and event.seconds >= 120:
            release.set()

    behaviour = Behaviour(fault=lambda number: silent if number == 0 else None)
    result, _ = run(behaviour, tokenizer, ONE, on_event=take, **Ticking(10).settings())
    silences = [event.seconds for event in events if isinstance(event, RolloutSilent)]
    assert (result.thinking, len(behaviour.seen)) == (THOUGHT, 2)
    assert len(silences) >= 3 and silences[0] < 120 <= max(silences)


def test_a_sign_of_life_ends_the_silence(tokenizer):
    asked = [threading.Event() for _ in range(3)]
    seconds: list[float] = []

    def pinging(handler, body):
        handler.begin()
        for one in asked:
            one.wait(20)
            handler.send(": ping\n\n")
        handler.send(event(THOUGHT, "stop"))

    def ended():
        return sum(later < earlier for earlier, later in itertools.pairwise(seconds))

    def take(event):
        if isinstance(event, RolloutSilent):
            seconds.append(event.seconds)
            if event.seconds > 20 and ended() < len(asked):
                asked[ended()].set()  # the next sign only when the last one was seen

    behaviour = Behaviour(fault=lambda number: pinging if number == 0 else None)
    run(behaviour, tokenizer, ONE, on_event=take, **Ticking(3).settings())
    assert ended() >= 2


@pytest.mark.parametrize("fault", ["504", "502", "524", "408", "drop"])
def test_what_a_long_silence_ended_is_sent_again_once(tokenizer, fault):
    time = VirtualTime()

    def late(handler, body):
        time.now += 60
        handler.drop() if fault == "drop" else handler.error(int(fault), "upstream timed out")

    behaviour = Behaviour(fault=lambda number: late)
    with pytest.raises(NetworkError):
        run(behaviour, tokenizer, ONE, retries=4, **time.settings())
    assert len(behaviour.seen) == 2


def test_a_504_that_comes_at_once_is_a_passing_fault(tokenizer):
    behaviour = Behaviour(fault=lambda number: "504" if number < 3 else None)
    result, _ = run(behaviour, tokenizer, ONE, **VirtualTime().settings())
    assert (result.text, len(behaviour.seen)) == ("\\boxed{3}", 5)


def test_after_a_long_silence_the_rest_is_asked_for_and_not_the_whole(tokenizer):
    time = VirtualTime()

    def late(handler, body):
        handler.begin()
        handler.send(event("one"))
        time.now += 60
        handler.drop()

    answers = {0: late, 1: lambda handler, body: (handler.begin(), handler.send(event(" two three", "stop")))}
    behaviour = Behaviour(fault=answers.get)
    result, _ = run(behaviour, tokenizer, ONE, **time.settings())
    assert result.thinking == THOUGHT
    assert behaviour.seen[1]["max_tokens"] < behaviour.seen[0]["max_tokens"]


def test_what_came_before_the_last_fault_is_kept_with_the_reason(tokenizer):
    def dying(handler, body):
        handler.begin()
        handler.send(event("one"))

    thoughts_alone = RsaParams(candidates=2, rounds=1, subset=2, think=50, tail=9, answer=7)
    behaviour = Behaviour(fault=lambda number: dying if number < 3 else None)
    result, _ = run(behaviour, tokenizer, thoughts_alone, retries=2, **VirtualTime().settings())
    first = result.rollouts[0]
    assert (first.state, first.thinking, first.tail, result.text) == ("cut", "oneoneone", "oneoneone", "\\boxed{3}")
    assert "ended its answer too early" in str(first.error)


def test_a_thought_without_the_answer_that_was_wanted_has_failed_and_is_kept(tokenizer):
    def fault(number):
        return "400" if number == 1 else None

    result, _ = run(Behaviour(fault=fault), tokenizer, TWO, **VirtualTime().settings())
    failed, done = sorted(result.rollouts, key=lambda rollout: rollout.state, reverse=True)
    assert (failed.state, failed.thinking, failed.answer, done.state) == ("failed", THOUGHT, "", "done")
    assert "answered 400" in str(failed.error)


# --- pauses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("2.5", 2.5), ("300", 300), (None, None), ("-3", None),
                                                ("soon", None), ("nan", None), ("0", 0)])  # fmt: skip
def test_a_pause_that_the_server_asks_for_is_kept(tokenizer, value, seconds):
    time = VirtualTime()
    headers = {"retry-after-ms": "x", **({} if value is None else {"Retry-After": value})}

    def busy(handler, body):
        handler.error(429, "busy", **headers)

    behaviour = Behaviour(fault=lambda number: busy if number == 0 else None)
    result, _ = run(behaviour, tokenizer, ONE, **time.settings())
    assert result.text == "\\boxed{3}"
    (pause,) = time.pauses
    assert pause == seconds if seconds is not None else 0.3 < pause < 0.6


def test_a_pause_may_be_a_date():
    import time

    assert 50 < (pause_of({"retry-after": formatdate(time.time() + 60, usegmt=True)}) or 0) <= 60
    assert pause_of({"retry-after": formatdate(time.time() - 3600, usegmt=True)}) == 0
    assert pause_of({"retry-after": "Mon, 99 Foo 2026"}) is None


@pytest.mark.parametrize("value", ["86400", "1e300", "inf", "Fri, 31 Dec 2999 23:59:59 GMT"])
def test_an_absurd_pause_is_said_and_not_waited_for(tokenizer, value):
    time = VirtualTime()

    def busy(handler, body):
        handler.error(429, "busy", **{"retry-after-ms": "x", "Retry-After": value})

    with pytest.raises(NetworkError, match="asks to wait"):
        run(Behaviour(fault=lambda number: busy), tokenizer, ONE, **time.settings())
    assert time.pauses == []


# --- the client's own threads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [RuntimeError("no room"), KeyError("x"), MemoryError(), RecursionError("deep")])
def test_any_exception_in_a_worker_fails_its_rollout_alone_and_with_its_reason(tokenizer, monkeypatch, error):
    held, complete = iter([True]), Conversation._complete

    def sometimes(self):
        if next(held, False):
            raise error
        return complete(self)

    monkeypatch.setattr(Conversation, "_complete", sometimes)
    result, _ = run(Behaviour(), tokenizer, TWO)
    assert sorted(rollout.state for rollout in result.rollouts) == ["done", "failed"]
    (reason,) = (rollout.error for rollout in result.rollouts if rollout.error)
    assert reason.startswith(f"{type(error).__name__}: ")


def test_an_exception_while_a_failure_is_written_down_is_no_hang_either(tokenizer, monkeypatch):
    def broken(*_arguments):
        raise RuntimeError("no text")

    monkeypatch.setattr("zaya_core.rsa.endpoint.conversation.finished", broken)
    monkeypatch.setattr("zaya_core.rsa.endpoint.generator.unfinished", broken)
    with pytest.raises(NetworkError, match="RuntimeError: no text"):
        run(Behaviour(), tokenizer, TWO)


def test_stopping_keeps_half_a_thought_and_does_not_wait_for_a_silent_server(tokenizer):
    release, half = threading.Event(), threading.Event()

    def silent(handler, body):
        handler.begin()
        handler.send(event("one two"))
        half.set()
        release.wait(20)

    behaviour = Behaviour()
    with served(behaviour) as url:
        generator = EndpointGenerator(url, tokenizer, 4096, parallel=1)
        before = len(behaviour.seen)
        behaviour.fault = lambda number: silent if number == before else None
        seen: list = []
        result = solve(
            generator, QUESTION, ONE, SAMPLING, on_event=seen.append,
            should_stop=lambda: any(getattr(event, "text", "") for event in seen),
        )  # fmt: skip
        again = solve(generator, QUESTION, ONE, SAMPLING)
        release.set()
    assert [(rollout.state, rollout.thinking) for rollout in result.rollouts] == [("stopped", "one two")]
    assert again.text == "\\boxed{3}"


def test_text_is_told_as_it_comes_and_counted_exactly_in_the_end(tokenizer):
    events: list = []
    run(Behaviour(), tokenizer, ONE, on_event=events.append)
    told = [event for event in events if hasattr(event, "text") and hasattr(event, "tokens")]
    assert [event.text for event in told if event.kind == "thinking" and event.text] == ["one", " two", " three"]
    assert sum(event.tokens for event in told) == 6
