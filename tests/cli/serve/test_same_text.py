"""Streamed or not, alone or beside others, over HTTP or by the Engine: the same seed gives the same text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tests.cli.serve.in_process import asked, joined
from zaya_core.engine.engine import Request
from zaya_core.engine.events import Finished, TextEvent, TokenEvent
from zaya_core.engine.generation_config import sampling_defaults

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
QUESTIONS = ["What is 12+7?", "What is 3*4?", "hi", "What is 100-1?", "What is 5+5?", "Tell me more."]


def by_the_engine(demo, text, seed, candidate=0, temperature=1.0, **settings):
    """(thinking, answer, reason, tokens) of the Engine alone."""
    engine = demo.engine
    sampling = replace(sampling_defaults(demo.folder), seed=seed, temperature=temperature)
    ids = engine.tokenizer.render_chat([{"role": "user", "content": text}])
    events = list(engine.generate([Request(ids, sampling, max_tokens=300, candidate=candidate, **settings)]))
    texts = {
        kind: "".join(event.text for event in events if isinstance(event, TextEvent) and event.kind == kind)
        for kind in ("thinking", "answer")
    }
    assert isinstance(events[-1], Finished)
    tokens = [event for event in events if isinstance(event, TokenEvent)]
    return texts["thinking"], texts["answer"], events[-1].reason, tokens


def body_of(text, seed, **fields):
    return asked(text, seed=seed, max_tokens=300, thinking_budget=280, temperature=2, **fields)


def of_choice(choice):
    message = choice["message"]
    return message.get("reasoning_content", ""), message["content"], choice["finish_reason"]


@pytest.fixture(scope="module")
def expected(demo):
    """By question: of the Engine, before any server has it."""
    return {
        text: by_the_engine(demo, text, seed, temperature=2.0, thinking_budget=280, stop_in_thinking="close")[:3]
        for seed, text in enumerate(QUESTIONS)
    }


def test_several_requests_at_once_get_what_the_engine_gives_each_alone(expected, server):
    bodies = [body_of(text, seed) for seed, text in enumerate(QUESTIONS)]
    responses = server.at_once(*bodies)
    assert {
        text: of_choice(response.json()["choices"][0]) for text, response in zip(QUESTIONS, responses, strict=True)
    } == expected


def test_several_streams_at_once_have_the_same_text(expected, server):
    bodies = [body_of(text, seed) for seed, text in enumerate(QUESTIONS)]
    with ThreadPoolExecutor(len(bodies)) as threads:
        streams = list(threads.map(lambda body: server.streamed(CHAT, body), bodies))
    assert {text: joined(chunks) for text, chunks in zip(QUESTIONS, streams, strict=True)} == expected


def test_each_of_n_choices_is_a_candidate_of_the_engine(demo, own_server):
    body = body_of("hi", 11, n=4)
    fields = {"temperature": 2.0, "thinking_budget": 280, "stop_in_thinking": "close"}
    alone = [by_the_engine(demo, "hi", 11, candidate, **fields)[:3] for candidate in range(4)]
    assert len(set(alone)) == 4
    server = own_server()
    assert [of_choice(choice) for choice in server.whole(CHAT, body)["choices"]] == alone
    chunks = server.streamed(CHAT, body)
    assert [joined(chunks, index) for index in range(4)] == alone


def test_a_completion_streams_what_it_gives_at_once(server):
    for fields in ({}, {"skip_special_tokens": False}, {"echo": True}, {"stop": ["="]}, {"logprobs": 2}):
        body = {"prompt": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n", "seed": 4, "n": 2}
        body = {**body, "max_tokens": 60, **fields}
        whole = server.whole(COMPLETIONS, body)["choices"]
        chunks = server.streamed(COMPLETIONS, body)
        for choice in whole:
            pieces = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice["index"]]
            assert "".join(piece["text"] for piece in pieces) == choice["text"]
            assert pieces[-1]["finish_reason"] == choice["finish_reason"]
            if choice["logprobs"]:
                for name, values in choice["logprobs"].items():
                    assert [v for p in pieces if p["logprobs"] for v in p["logprobs"][name]] == values
