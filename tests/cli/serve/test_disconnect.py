"""A client that leaves frees its rows, wherever its answer is, whether it was to be streamed or not."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref

import pytest

from tests.cli.serve.in_process import asked, events, joined
from zaya_cli.serve.job import Job
from zaya_core.engine.events import Failed
from zaya_core.engine.request import Request

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
THINKS_ON = {"106": -100, "767": -100}
ANSWERS_ON = {"106": -100}
LONG = "1+1 " * 1000


def states(server, wanted, count=1):
    async def reached(_):
        rows = await server.service.ask(lambda engine: engine.rows())
        return len(rows) == count and {row.state for row in rows} == {wanted}

    return reached


@pytest.fixture
def small_chunks(demo, monkeypatch):
    """A long prompt takes many steps."""
    monkeypatch.setattr(demo.engine, "chunk", 16)


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("n", [1, 4])
def test_in_thinking(server, is_stream, n):
    server.leave(CHAT, asked(logit_bias=THINKS_ON, stream=is_stream, n=n), states(server, "running", n))
    assert server.is_free_soon()


@pytest.mark.parametrize("is_stream", [False, True])
def test_in_the_answer(server, is_stream):
    async def is_answering(received):
        rows = await server.service.ask(lambda engine: engine.rows())
        return b'"content":"\\\\' in received if is_stream else any(not row.is_thinking for row in rows)

    server.leave(CHAT, asked(logit_bias=ANSWERS_ON, stream=is_stream, seed=3), is_answering)
    assert server.is_free_soon()


@pytest.mark.parametrize("is_stream", [False, True])
def test_in_prefill(server, small_chunks, is_stream):
    server.leave(CHAT, asked(LONG, stream=is_stream), states(server, "prefilling"))
    assert server.is_free_soon()


@pytest.mark.parametrize("is_stream", [False, True])
def test_in_the_queue(server, is_stream):
    """Also before the Engine has heard of it."""
    release = server.held()

    async def is_queued(_):
        return server.service.waiting_requests == 1

    server.leave(CHAT, asked(logit_bias=THINKS_ON, stream=is_stream), is_queued)
    assert not server.service.open_requests
    release.set()
    assert server.is_free_soon()


def test_who_waits_for_a_cancelled_job_waits_no_more(server):
    release = server.held()

    async def cancel():
        mailbox = await server.service.submit(Job("one", (Request([2, 380]), Request([2, 381]))))
        server.service.cancel("one")
        return [event async for arrivals in mailbox.arrivals() for _, event in arrivals]

    assert [type(event) for event in server.wait(cancel())] == [Failed, Failed]
    release.set()


def test_waiting_for_a_row(server):
    seen: list = []

    async def has_waited(_):
        rows = await server.service.ask(lambda engine: engine.rows())
        seen.extend(row for row in rows if row.state == "waiting" and len(rows) == 5)
        return bool(seen)

    async def leave_both():
        bodies = [asked(logit_bias=THINKS_ON, n=n) for n in (4, 1)]
        await asyncio.gather(*(server._leave(CHAT, body, has_waited) for body in bodies))

    server.wait(leave_both())
    assert server.is_free_soon()


def test_in_a_completion_whose_stop_string_never_comes(server):
    body = {"prompt": [2, 380], "ignore_eos": True, "stop": ["\x00"], "n": 2, "stream": True}
    server.leave(COMPLETIONS, body, states(server, "running", 2))
    assert server.is_free_soon()


def test_a_hundred_that_leave_at_once_leave_nothing_behind(own_server):
    server = own_server(queue=200)

    async def storm():
        seen: list = []

        async def soon(_):
            seen.extend([True] if server.service.open_requests > 90 else [])
            return bool(seen)

        bodies = [asked(logit_bias=THINKS_ON, stream=bool(i % 2)) for i in range(100)]
        await asyncio.gather(*(server._leave(CHAT, body, soon) for body in bodies))

    server.wait(storm())
    assert server.is_free_soon(2)
    assert server.chat(seed=3)["choices"][0]["message"]["content"] == "\\boxed{19}"


def test_blocks_are_back_when_all_have_gone(server):
    def blocks():
        async def count():
            return await server.service.ask(lambda engine: (engine.counters.blocks_used, engine.counters.prefix_blocks))

        used, kept = server.wait(count())
        return used - kept

    before = blocks()
    for n in (1, 4):
        server.leave(CHAT, asked(logit_bias=THINKS_ON, n=n), states(server, "running", n))
    assert server.is_free_soon()
    assert blocks() == before


def test_a_client_that_takes_nothing_is_taken_for_gone(server, monkeypatch):
    monkeypatch.setattr("zaya_cli.serve.event_stream._STALLED_SECONDS", 0.05)

    async def stall():
        async def receive():
            await asyncio.sleep(0 if messages else 3600)
            return messages.pop()

        async def send(message):
            if message.get("body"):
                await asyncio.sleep(3600)

        messages = [{"type": "http.request", "body": json.dumps(asked(logit_bias=THINKS_ON, stream=True)).encode()}]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b""}
        await server.app(scope, receive, send)

    server.wait(stall())
    assert server.is_free_soon()


def test_a_slow_client_gets_the_same_text_in_fewer_pieces(server):
    pieces = []

    async def read_slowly():
        async def receive():
            await asyncio.sleep(0 if messages else 3600)
            return messages.pop()

        async def send(message):
            pieces.append(message.get("body", b"").decode())
            await asyncio.sleep(0.02)

        messages = [{"type": "http.request", "body": json.dumps(asked(seed=3, stream=True)).encode()}]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b""}
        await server.app(scope, receive, send)

    server.wait(read_slowly())
    *chunks, done = events("".join(pieces))
    assert joined(chunks) == ("12+7=19", "\\boxed{19}", "stop") and done == "[DONE]"
    assert len(chunks) < len(server.streamed(CHAT, asked(seed=3)))


def test_a_long_prefill_is_not_silent(own_server, small_chunks):
    """Also where nobody asked for its progress: proxies cut connections that say nothing."""
    server = own_server(ping=0.02)
    response = server.post(CHAT, asked(LONG, stream=True, max_tokens=1))
    assert response.text.count(": ping\n\n") >= 3


def test_a_job_that_has_ended_is_forgotten(server):
    """What would have ended it for taking too long holds neither its prompt nor its answer until then."""

    async def do():
        mailbox = await server.service.submit(Job("one", (Request([2, 380], max_tokens=2),)))
        async for _ in mailbox.arrivals():
            pass
        return weakref.ref(mailbox)

    forgotten = server.wait(do())
    assert server.is_free_soon()
    gc.collect()
    assert forgotten() is None
