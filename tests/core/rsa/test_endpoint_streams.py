"""Streams of servers, however they come: every law with the answer that a sound stream gives."""

from __future__ import annotations

import itertools
import json

import pytest

from tests.core.rsa.faulty_server import THOUGHT, Behaviour, event
from tests.core.rsa.servers import ONE, run
from zaya_core.errors import NetworkError
from zaya_core.rsa import RsaParams
from zaya_core.rsa.endpoint.events import read_events
from zaya_core.rsa.endpoint.faults import BrokenStream, Malformed

pytest.importorskip("openai", reason="the endpoint extra is not installed")
pytestmark = pytest.mark.usefixtures("direct")

DONE = "data: [DONE]\n\n"
USAGE = {"usage": {"prompt_tokens": 9, "completion_tokens": 3}}


def sending(*parts):
    """Send bytes in place of an answer."""

    def send(handler, body):
        handler.begin()
        for part in parts:
            handler.send(part)

    return send


def thought(*parts):
    """Bytes in place of the first answer, which is a thought."""
    return Behaviour(fault=lambda number: sending(*parts) if number == 0 else None)


def test_every_request_streams_and_asks_for_counts(tokenizer):
    behaviour = Behaviour()
    run(behaviour, tokenizer)
    assert {request["stream"] for request in behaviour.seen} == {True}
    assert all(request["stream_options"] == {"include_usage": True} for request in behaviour.seen)


def test_a_gateway_that_answers_504_unless_the_request_streams_is_no_obstacle(tokenizer):
    def gateway(handler, body):
        handler.error(504, "upstream timed out") if not body.get("stream") else handler.complete(body)

    result, _ = run(Behaviour(fault=lambda number: gateway), tokenizer, from_start=True)
    assert (result.is_complete, result.text) == (True, "\\boxed{3}")


@pytest.mark.parametrize("kind", ["completions", "chat"])
def test_a_server_that_does_not_stream_is_read_as_a_whole(tokenizer, kind):
    def whole(handler, body):
        choice = {"index": 0, "text": THOUGHT if body.get("stop") else "\\boxed{3}", "finish_reason": "stop"}
        handler.reply(200, {"choices": [choice], "usage": {"prompt_tokens": 30, "completion_tokens": 3}})

    if kind == "chat":
        behaviour = Behaviour(has_completions=False, streams=False)
    else:
        behaviour = Behaviour(fault=lambda number: whole)
    result, _ = run(behaviour, tokenizer)
    assert (result.text, result.thinking) == ("\\boxed{3}", THOUGHT)


ODD = {
    "CRLF": [(event("one") + event(" two three", "stop") + DONE).replace("\n", "\r\n")],
    "CR": [(event("one") + event(" two three", "stop") + DONE).replace("\n", "\r")],
    "no blank after data:": [(event("one two") + event(" three", "stop") + DONE).replace("data: ", "data:")],
    "no empty lines": [(event("one") + event(" two three", "stop") + DONE).replace("\n\n", "\n")],
    "keep-alives": [": ping\n\n", event("one two"), ":\n\n: OPENROUTER PROCESSING\n\n", event(" three", "stop"), DONE],
    "other fields": ["event: message\nid: 7\nretry: 10\n", event("one two three", "stop"), DONE],
    "[DONE] missing": [event("one two"), event(" three", "stop")],
    "finish_reason missing": [event("one two"), event(" three"), DONE],
    "an id only": ['data: {"id": "cmpl-1"}\n\n', event("one two three", "stop"), DONE],
    "no choices": ['data: {"choices": []}\n\n', event("one two three", "stop"), 'data: {"choices": null}\n\n'],
    "null": ["data: null\n\n", "data: 5\n\n", event("one two three", "stop"), DONE],
    "empty data": ["data:\n\n", "data\n\n", event("one two three", "stop"), DONE],
    "a byte order mark": ["\ufeff", event("one two three", "stop"), DONE],
    "cut into bytes": [bytes([byte]) for byte in (event("one two three", "stop") + DONE).encode()],
    "one event in two data lines": ['data: {"choices": [{"text":\ndata: "one two three"}]}\n\n', DONE],
    "the last event unfinished by a line": [event("one two three", "stop").rstrip()],
    "usage of all sorts": [
        event("one", usage={"prompt_tokens": 9, "completion_tokens": 1}),
        event(" two three", "stop", usage=None),
        'data: {"choices": [], "usage": "unknown"}\n\n',
        DONE,
    ],
}  # fmt: skip


@pytest.mark.parametrize("parts", ODD.values(), ids=ODD)
def test_a_stream_may_be_written_oddly(tokenizer, parts):
    behaviour = thought(*parts)
    result, _ = run(behaviour, tokenizer, ONE, parallel=1)
    assert (result.rollouts[0].state, result.rollouts[0].error) == ("done", None)
    assert (result.thinking, result.text, len(behaviour.seen)) == (THOUGHT, "\\boxed{3}", 2)


@pytest.mark.parametrize(
    ("text", "read"),
    [(b"caf\xc3", "caf\ufffd"), (b"caf\xc3\xa9", "café"), (b"a\xff\xfeb", "a\ufffd\ufffdb"), ("a\u2028b", "a\u2028b")],
)
def test_bytes_that_are_no_utf_8_cost_a_character_and_not_the_answer(tokenizer, text, read):
    text = text.encode() if isinstance(text, str) else text
    behaviour = thought(b'data: {"choices": [{"text": "', text, b'", "finish_reason": "stop"}]}\n\n', DONE)
    result, _ = run(behaviour, tokenizer, ONE, parallel=1)
    assert (result.thinking, result.text) == (read, "\\boxed{3}")


def test_a_character_whose_halves_come_in_two_chunks_is_whole(tokenizer):
    halves = ['data: {"choices": [{"text": "\\ud83d"}]}\n\n', 'data: {"choices": [{"text": "\\ude00"}]}\n\n']
    result, _ = run(thought(*halves, event("", "stop"), DONE), tokenizer, ONE, parallel=1)
    assert result.thinking == "\U0001f600"


@pytest.mark.parametrize("delta", [None, {}, {"content": None}, {"role": "assistant"}, {"content": []}, []])
def test_chunks_of_a_chat_may_bring_nothing(tokenizer, delta):
    def chat(handler, body):
        choices = [{"delta": {"reasoning_content": "one"}}, {"delta": delta}, {"delta": {"content": "\\boxed{3}"}}]
        handler.stream(choices, body)

    behaviour = Behaviour(has_completions=False, fault=lambda number: chat)
    result, _ = run(behaviour, tokenizer, ONE, parallel=1)
    assert (result.text, result.thinking) == ("\\boxed{3}", "one")


@pytest.mark.parametrize("reason", ["length", "max_tokens"])
def test_an_answer_that_its_limit_ended_is_cut(tokenizer, reason):
    result, _ = run(thought(event("one two three", reason), DONE), tokenizer, ONE, parallel=1)
    assert result.rollouts[0].state == "cut"


def test_an_answer_without_a_reason_that_filled_its_budget_is_cut(tokenizer):
    full = event("one two three", usage={"prompt_tokens": 9, "completion_tokens": ONE.think})
    result, _ = run(thought(full, DONE), tokenizer, ONE, parallel=1)
    assert result.rollouts[0].state == "cut"


def test_a_server_that_knows_no_end_is_left_at_the_budget(tokenizer):
    def endless(handler, body):
        handler.begin()
        for _ in range(100_000):
            handler.send(event(" word"))

    behaviour = Behaviour(fault=lambda number: endless if number == 0 else None)
    result, _ = run(behaviour, tokenizer, ONE, parallel=1)
    assert (result.rollouts[0].state, result.text) == ("cut", "\\boxed{3}")
    assert len(behaviour.seen) == 2


def test_a_thought_far_beyond_its_budget_is_cut_before_it_is_closed(tokenizer):
    long = " ".join(f"word{number}" for number in range(200))
    behaviour = thought(event(long, "stop"), DONE)
    result, _ = run(behaviour, tokenizer, ONE, parallel=1)
    assert result.rollouts[0].state == "cut"
    assert len(behaviour.seen[1]["prompt"]) <= len(behaviour.seen[0]["prompt"]) + ONE.think + 1


# --- broken off -------------------------------------------------------------------------------------------------------

BROKEN = {
    "the connection closes": [event("one")],
    "half an event": [event("one"), 'data: {"choices": [{"text": " tw'],
    "half an event, then the end": [event("one"), 'data: {"choices": [{"te\n\n', DONE],
    "an error in the stream": [event("one"), 'data: {"error": {"message": "worker died", "code": 500}}\n\n'],
    "an error with words alone": [event("one"), 'event: error\ndata: {"error": "worker died"}\n\n'],
}


@pytest.mark.parametrize("parts", BROKEN.values(), ids=BROKEN)
def test_what_came_before_a_fault_is_kept_and_only_the_rest_is_asked_for(tokenizer, parts):
    behaviour = Behaviour()
    behaviour.fault = lambda number: {0: sending(*parts), 1: sending(event(" two three", "stop"), DONE)}.get(number)
    result, _ = run(behaviour, tokenizer, ONE, parallel=1, wait=lambda event, seconds: None)
    first, second, _answer = behaviour.seen
    assert (result.rollouts[0].state, result.thinking, result.text) == ("done", THOUGHT, "\\boxed{3}")
    assert second["prompt"] == [*first["prompt"], *tokenizer.encode("one")]
    assert second["max_tokens"] == first["max_tokens"] - len(tokenizer.encode("one"))
    assert second["seed"] != first["seed"]


def test_a_connection_that_is_reset_is_like_one_that_closes(tokenizer):
    def reset(handler, body):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        content = event("one").encode()
        handler.send(b"%x\r\n%s\r\n" % (len(content), content))
        handler.drop()

    behaviour = Behaviour()
    behaviour.fault = lambda number: {0: reset, 1: sending(event(" two three", "stop"), DONE)}.get(number)
    result, _ = run(behaviour, tokenizer, ONE, parallel=1, wait=lambda event, seconds: None)
    assert (result.thinking, len(behaviour.seen)) == (THOUGHT, 3)


def test_a_gateway_that_ends_every_request_early_does_not_keep_a_thought_from_its_end(tokenizer):
    words = [f" word{number}" for number in range(40)]

    def some(handler, body):
        at = behaviour.seen.index({"path": handler.path, **body}) * 8
        sending(*map(event, words[at : at + 8]), *([event("", "stop")] if at >= 32 else []))(handler, body)

    behaviour = Behaviour()
    behaviour.fault = lambda number: some if number <= 4 else None
    params = RsaParams(candidates=1, rounds=0, think=400, tail=2, answer=7)
    result, _ = run(behaviour, tokenizer, params, parallel=1, retries=1, wait=lambda event, seconds: None)
    assert result.thinking.split() == "".join(words).split()


def test_a_chat_that_breaks_is_asked_again_so_often_and_then_what_came_most_is_kept(tokenizer):
    def chat(handler, body):
        number = len(behaviour.seen)
        text = "\\boxed{3} it is" if number == 2 else "\\boxed{3}"
        choices = [{"choices": [{"delta": delta}]} for delta in ({"reasoning": "one two"}, {"content": text})]
        sending(*(f"data: {json.dumps(choice)}\n\n" for choice in choices))(handler, body)

    behaviour = Behaviour(has_completions=False, fault=lambda number: chat)
    result, _ = run(behaviour, tokenizer, ONE, parallel=1, retries=2, wait=lambda event, seconds: None)
    (rollout,) = result.rollouts
    assert (rollout.state, rollout.answer, rollout.thinking) == ("cut", "\\boxed{3} it is", "one two")
    assert len(behaviour.seen) == 3 and "ended its answer too early" in str(rollout.error)


def test_a_server_that_never_marks_its_ends_is_believed(tokenizer):
    def unmarked(handler, body):
        sending(event(THOUGHT if body.get("stop") else "\\boxed{3}"))(handler, body)

    behaviour = Behaviour(fault=lambda number: unmarked)
    result, generator = run(behaviour, tokenizer, ONE, parallel=1, from_start=True)
    assert not generator.dialect.marks_end
    assert (result.thinking, result.text, len(behaviour.seen)) == (THOUGHT, "\\boxed{3}", 2)


def test_one_broken_probe_makes_no_rule(tokenizer):
    behaviour = Behaviour(fault=lambda number: sending(event("one")) if number == 0 else None)
    _, generator = run(behaviour, tokenizer, ONE, parallel=1, from_start=True)
    assert generator.dialect.marks_end


# --- no stream at all -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"<!DOCTYPE html><title>Sign in</title>", "a web page"), (b"All is fine", "no JSON"), (b"[1]", "no JSON object"),
     (b"", "without choices"), (b'{"detail": "x"}', "without choices")],
)  # fmt: skip
def test_a_page_that_is_no_answer_is_one_sentence_with_the_model(tokenizer, content, words):
    behaviour = Behaviour(fault=lambda number: lambda handler, body: handler.reply_bytes(200, content, "text/html"))
    with pytest.raises(NetworkError) as raised:
        run(behaviour, tokenizer, ONE, parallel=1)
    assert words in str(raised.value) and "model served" in str(raised.value)
    assert len(behaviour.seen) == 3


@pytest.mark.parametrize("content", [b"data: {", b'data: {"a": 1', b"data: [1, 2\n\n"])
def test_half_an_event_is_broken(content):
    with pytest.raises(BrokenStream):
        list(read_events([content]))


def test_a_page_without_end_is_left(monkeypatch):
    monkeypatch.setattr("zaya_core.rsa.endpoint.events._LONGEST", 1 << 16)
    with pytest.raises(Malformed, match="without end"):
        list(read_events(itertools.repeat(b"x" * (1 << 12))))
