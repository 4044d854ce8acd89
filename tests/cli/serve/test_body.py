"""A body is read up to its limit, in its time, and whole before a route sees it."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.cli.serve.asking import Echo, ask, behind_guards
from zaya_cli.serve.guard.head import MOST_BYTES


def part(body, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_that_comes_in_parts_is_handed_over_whole():
    echo = Echo()
    assert ask(behind_guards(echo), "POST", parts=[part(b"ab"), part(b""), part(b"cd", more=False)]).status == 200
    assert echo.bodies == [b"abcd"]


def test_a_body_of_exactly_the_limit_is_read_and_none_beyond():
    echo = Echo()
    guards = behind_guards(echo, max_body=10)
    assert ask(guards, "POST", body=b"x" * 10, headers=[("content-length", "10")]).status == 200
    for headers, parts in (
        ([("content-length", "11")], [None]),  # refused before anything is read
        ([], [part(b"x" * 11, more=False)]),
        ([("transfer-encoding", "chunked")], [part(b"x" * 6), part(b"x" * 6), None]),
        ([("content-length", "3")], [part(b"x" * 6), part(b"x" * 6)]),
        ([("content-length", "9" * 20)], [None]),
    ):
        reply = ask(guards, "POST", headers=headers, parts=parts)
        assert (reply.status, reply.error["code"]) == (413, "body_too_large")
        assert "10 bytes" in reply.error["message"]
    assert len(echo.bodies) == 1


@pytest.mark.parametrize("length", ["", "x", "-1", "1.0", "+1", "1_0", "0x10", "\xb2", "9" * 5000, "1, 2"])
def test_a_length_that_is_no_number_is_a_bad_request(length):
    reply = ask(behind_guards(), "POST", headers=[("content-length", length)])
    assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")


def test_a_length_is_given_once():
    guards = behind_guards()
    assert ask(guards, "POST", headers=[("content-length", "1"), ("content-length", "2")]).status == 400
    assert ask(guards, "POST", headers=[("content-length", "1"), ("transfer-encoding", "chunked")]).status == 400


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "zstd", "identity, gzip", "GZIP", ""])
def test_compressed_bodies_are_refused(encoding):
    reply = ask(behind_guards(), "POST", headers=[("content-encoding", encoding)])
    assert (reply.status, reply.error["code"]) == (415, "compressed_body")
    assert ask(behind_guards(), "POST", headers=[("content-encoding", "identity")]).status == 200


def test_a_body_that_does_not_arrive_is_waited_for_a_while():
    echo, started = Echo(), time.monotonic()
    reply = ask(behind_guards(echo, body_timeout=0.05), "POST", parts=[part(b"{"), None])
    assert (reply.status, reply.error["code"], reply.headers["connection"]) == (408, "body_timeout", "close")
    assert not echo.bodies
    assert time.monotonic() - started < 5


def test_a_client_that_leaves_while_it_sends_is_told_nothing_and_makes_no_noise(capsys):
    echo = Echo()
    reply = ask(behind_guards(echo), "POST", parts=[part(b"{"), {"type": "http.disconnect"}])
    assert (reply.status, echo.bodies) == (0, [])
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "(client left)" in err


def test_a_route_hears_that_its_client_has_left():
    heard = []

    async def slow(scope, receive, send):
        await receive()
        heard.append(await asyncio.wait_for(receive(), 5))

    ask(behind_guards(slow), "POST", parts=[part(b"{}", more=False), {"type": "http.disconnect"}])
    assert heard == [{"type": "http.disconnect"}]


@pytest.mark.parametrize(
    ("headers", "scope", "status"),
    [
        ([("x-long", "x" * MOST_BYTES)], {}, 431),
        ([(f"x-{number}", "y") for number in range(101)], {}, 431),
        ([("x-long", "x" * (MOST_BYTES // 2))], {}, 200),
        ([], {"query_string": b"x" * MOST_BYTES}, 414),
        ([], {"path": "/" + "x" * MOST_BYTES}, 414),
    ],
)
def test_the_head_of_a_request_has_a_limit(headers, scope, status):
    reply = ask(behind_guards(), headers=headers, **scope)
    assert reply.status == status
    assert status == 200 or json.loads(reply.body)["error"]["message"]
