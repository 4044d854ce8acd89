"""Each error has its status and a body that OpenAI's clients can read; the server goes on."""

from __future__ import annotations

import json

import pytest
import torch

from tests.cli.serve.in_process import asked, error_in, events
from zaya_cli.serve.notes import wait_until_told
from zaya_core.errors import CheckpointError, GenerationError

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
BODIES = {
    "nothing": b"",
    "no JSON": b"{",
    "half": b'{"messages": [',
    "not UTF-8": b'{"messages": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a list": b"[]",
    "a text": b'"x"',
    "a number": b"1",
    "null": b"null",
    "NaN": b'{"temperature": NaN}',
    "infinity": b'{"temperature": -Infinity}',
    "deep": b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "long number": b'{"seed": ' + b"1" * 100_000 + b"}",
}


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, "/tokenize", "/detokenize", "/apply-template", f"{CHAT}/control"])
@pytest.mark.parametrize("kind", BODIES)
def test_a_body_that_is_no_json_object_is_refused(server, path, kind):
    assert error_in(server.post(path, BODIES[kind]), 400)["type"] == "invalid_request_error"


def test_deep_values_and_huge_numbers_anywhere_are_refused_and_harm_nobody(server):
    deep: list = []
    for _ in range(400):
        deep = [deep]
    for name in ("messages", "stop", "chat_template_kwargs", "logit_bias", "unheard_of", "tools"):
        assert server.post(CHAT, asked(**{name: deep} if name != "messages" else {})).status_code < 500
        assert server.post(CHAT, {**asked(max_tokens=1), name: {"a": deep}}).status_code < 500
    assert server.post(CHAT, asked(max_tokens=10**400)).status_code in (200, 400)
    assert server.post(CHAT, b'{"messages":[{"role":"user","content":"x"}],"temperature":1e999}').status_code == 400


def test_halves_of_characters_are_answered(server):
    body = json.dumps(asked("\ud83d and \ude00", max_tokens=3)).encode()
    assert server.post(CHAT, body).status_code == 200
    assert server.post(CHAT, asked("x", max_tokens=3, stop="\ud83d")).status_code == 200
    assert error_in(server.post(CHAT, asked("x", model=["\ud83d"])), 400)


def test_unknown_paths_methods_and_features_are_told_apart(server):
    assert error_in(server.get("/nothing"), 404)["code"] == "not_found"
    assert error_in(server.get(CHAT), 405)["code"] == "method_not_allowed"
    assert server.get(CHAT).headers["allow"] == "POST"
    for path in ("/v1/embeddings", "/v1/audio/speech", "/v1/images/generations", "/v1/responses", "/v1/messages"):
        assert error_in(server.post(path, {}), 501)["code"] == "unsupported"
    assert error_in(server.get("/v1/models/gpt-4o"), 404)["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/v1/tokenize", "/models", "/v1/health"])
def test_endpoints_are_there_with_their_version_and_without(server, path):
    assert server.get(path).status_code in (200, 405)


def test_a_full_queue_says_when_to_come_again_and_takes_the_next_one_later(own_server):
    server = own_server(rows=4, queue=2)
    release = server.held()

    async def fill():
        from zaya_cli.serve.job import Job
        from zaya_core.engine.request import Request

        requests = tuple(Request([2, 380], max_tokens=2, candidate=i) for i in range(6))
        await server.service.submit(Job("one", requests))

    server.wait(fill())
    response = server.post(CHAT, asked(seed=3))
    error = error_in(response, 429)
    assert error["type"] == "rate_limit_error" and error["code"] == "queue_full"
    assert 1 <= int(response.headers["retry-after"]) <= 60
    release.set()
    assert server.is_free_soon()
    assert server.chat(seed=3)["choices"]


def test_one_of_several_keys_cannot_fill_the_queue(own_server):
    server = own_server(rows=2, queue=8, api_keys=("a", "b"))
    release = server.held()

    async def submit(owner, name):
        from zaya_cli.serve.job import Job
        from zaya_core.engine.request import Request

        await server.service.submit(Job(name, (Request([2, 380], max_tokens=2),), owner=owner))

    for place in range(4):
        server.wait(submit("a", f"a{place}"))
    with pytest.raises(Exception, match="queue is full"):
        server.wait(submit("a", "a5"))
    server.wait(submit("b", "b1"))
    release.set()
    assert server.is_free_soon()


def test_more_answers_than_there_can_ever_be_places_are_refused_for_good(own_server):
    server = own_server(rows=4, queue=2)
    assert "6" in error_in(server.post(COMPLETIONS, {"prompt": ["x"] * 7}), 400)["message"]
    server = own_server(rows=2, queue=8, api_keys=("a", "b"))
    assert "4" in error_in(server.post(COMPLETIONS, {"prompt": ["x"] * 5}), 400)["message"]


@pytest.mark.parametrize("state", ["loading", "draining", "failed"])
def test_a_server_that_is_not_ready_says_so(own_server, state):
    server = own_server()
    server.service.state = state
    for response in (server.post(CHAT, asked()), server.post(COMPLETIONS, {"prompt": "x"}), server.get("/slots")):
        error = error_in(response, 503)
        assert error["type"] == "service_unavailable" and error["code"] == state
        assert int(response.headers["retry-after"]) > 0
    health = server.get("/health")
    assert health.status_code == 503 and health.json()["status"] == state
    server.service.state = "ready"
    assert server.get("/health").json() == {"status": "ok"}


FAULTS = {
    "out of memory": (torch.OutOfMemoryError("SECRET /path"), "out_of_memory", "ready"),
    "the computer's memory": (MemoryError("SECRET /path"), "out_of_memory", "ready"),
    "unforeseen": (RuntimeError("SECRET /path"), "failed", "ready"),
    "another known error": (GenerationError("SECRET /path"), "failed", "ready"),
    "damaged weights": (CheckpointError("SECRET /path"), "damaged", "failed"),
}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("kind", FAULTS)
def test_a_failed_computation_is_told_without_paths_and_all_that_were_open_hear_of_it(
    demo, own_server, monkeypatch, capsys, kind, is_stream
):
    fault, code, state = FAULTS[kind]

    def fail(*_, **__):
        raise fault

    server = own_server()
    with monkeypatch.context() as patch:
        patch.setattr(type(demo.engine.model), "__call__", fail)
        patch.setattr(type(demo.engine.model), "forward", fail, raising=False)
        responses = server.at_once(*[asked(seed=seed, stream=is_stream) for seed in range(3)])
    wait_until_told()
    told = capsys.readouterr()
    assert told.err.count(type(fault).__name__) in (1, 2, 3)
    for response in responses:
        if state == "failed" and response.status_code == 503:
            continue  # it came when that was known
        if is_stream:
            assert response.status_code == 200
            *_, last = events(response.text)
            error = last["error"]
            assert "[DONE]" not in response.text and '"finish_reason":"' not in response.text
        else:
            error = error_in(response, 500)
        assert error["type"] == "server_error" and error["code"] == code
        assert "SECRET" not in response.text and "/path" not in response.text
    assert "SECRET" not in told.err + told.out
    assert server.service.state == state
    assert not server.service.open_requests
    if state == "ready":
        assert server.chat(seed=3)["choices"][0]["message"]["content"] == "\\boxed{19}"


def test_a_step_that_breaks_the_engine_answers_all_and_the_thread_goes_on(demo, own_server, monkeypatch):
    server = own_server()
    with monkeypatch.context() as patch:
        patch.setattr(demo.engine, "_work", lambda: 1 // 0)
        responses = server.at_once(*[asked(seed=seed) for seed in range(3)])
    assert [error_in(response, 500)["code"] for response in responses] == ["failed"] * 3
    assert server.chat(seed=3)["choices"][0]["message"]["content"] == "\\boxed{19}"


def test_what_waits_too_long_and_what_runs_too_long_is_ended(own_server):
    server = own_server(queue_timeout=0.05)
    release = server.held()
    error = error_in(server.post(CHAT, asked()), 503)
    assert error["code"] == "queue_timeout"
    release.set()
    server = own_server(request_timeout=0.2)
    body = asked(logit_bias={"106": -100, "767": -100})
    assert error_in(server.post(CHAT, body), 408)["code"] == "request_timeout"
    *_, last = events(server.post(CHAT, {**body, "stream": True}).text)
    assert last["error"]["code"] == "request_timeout"
    assert server.is_free_soon()


def test_draining_ends_what_waits_and_lets_run_what_runs(own_server):
    server = own_server(rows=4)

    async def drain():
        import asyncio

        running = asyncio.ensure_future(server.client.post(CHAT, json=asked(seed=3, n=4, max_tokens=100)))
        while server.service.waiting_requests or not server.service.open_requests:
            await asyncio.sleep(0.001)
        waiting = asyncio.ensure_future(server.client.post(CHAT, json=asked(seed=4)))
        while server.service.open_requests < 5:
            await asyncio.sleep(0.0005)
            if running.done():
                break
        was_clean = await server.service.drain(10)
        late = await server.client.post(CHAT, json=asked())
        return await running, await waiting, was_clean, late

    running, waiting, was_clean, late = server.wait(drain())
    assert running.status_code == 200 and was_clean
    assert waiting.status_code == 200 or error_in(waiting, 503)["code"] == "server_shutdown"
    assert error_in(late, 503)["code"] == "draining"


def test_draining_has_an_end(own_server):
    server = own_server()
    body = asked(logit_bias={"106": -100, "767": -100}, stream=True)

    async def drain():
        import asyncio

        running = asyncio.ensure_future(server.client.post(CHAT, json=body))
        while not server.service.open_requests or server.service.waiting_requests:
            await asyncio.sleep(0.001)
        was_clean = await server.service.drain(0.1)
        return await running, was_clean

    running, was_clean = server.wait(drain())
    *_, last = events(running.text)
    assert last["error"]["code"] == "server_shutdown" and not was_clean
