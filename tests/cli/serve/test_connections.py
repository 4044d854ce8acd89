"""What reaches the server over real connections, however it is written, cut, slow or many."""

from __future__ import annotations

import asyncio
import errno
import json
import random
import socket
import time

import pytest

pytest.importorskip("uvicorn", reason="the serve extra is not installed")

from tests.cli.serve.asking import Echo
from tests.cli.serve.listening import answer, connected, listening, request, sent
from tests.fuzz.budget import rounds
from zaya_cli.serve.guard.head import MOST_BYTES
from zaya_cli.serve.http import connection as connections
from zaya_cli.serve.http.faults import LoopFaults
from zaya_cli.serve.notes import wait_until_told

GET = request("GET /v1/models HTTP/1.1\nHost: localhost")


@pytest.fixture(scope="module")
def served():
    echo = Echo()
    with listening(echo) as (port, _):
        yield echo, port


@pytest.fixture
def echo(served):
    served[0].bodies.clear()
    return served[0]


@pytest.fixture
def port(served):
    return served[1]


def status(reply):
    return int(reply.split(b" ", 2)[1])


def error(reply):
    return json.loads(reply.partition(b"\r\n\r\n")[2])["error"]


def post(headers, body=b""):
    return request(f"POST /v1/completions HTTP/1.1\nHost: localhost\n{headers}") + body


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40 + b"\r\n\r\n", 400),
        (request("GET /v1/models HTTP/1.1"), 400),
        (request("GET /v1/models HTTP/1.1\nHost: localhost\nHost: evil.example"), 400),
        (request("GET /v1/models HTTP/1.1\nHost: evil.example"), 403),
        (request("GET http://evil.example/v1/models HTTP/1.1\nHost: localhost"), 400),
        (request("GET /v1/models HTTP/1.1\nHost: localhost\nOrigin: http://evil.example"), 403),
        (request("CONNECT localhost:1 HTTP/1.1\nHost: localhost"), 400),
        (request("GET /\x00 HTTP/1.1\nHost: localhost"), 400),
        (request("GET /v1/models HTTP/1.1\nHost: localhost\nBad Name: x"), 400),
        (request("GET /v1/models HTTP/1.1\nHost: localhost\nX: a\x00b"), 400),
        (post("Content-Length: x"), 400),
        (post("Content-Length: -1"), 400),
        (post("Content-Length: 1\nContent-Length: 2", b"xx"), 400),
        (post("Content-Length: 1\nTransfer-Encoding: chunked", b"0\r\n\r\n"), 400),
        (post("Transfer-Encoding: gzip", b"x"), 400),
        (post("Content-Length: 99999999", b"x"), 413),
        (post("Content-Encoding: gzip\nContent-Length: 1", b"x"), 415),
        (request(f"GET /v1/models HTTP/1.1\nHost: localhost\nX: {'x' * 100_000}"), 431),
        (request(f"GET /{'x' * 20_000} HTTP/1.1\nHost: localhost"), 414),
        (GET, 200),
        (request("GET /v1/models HTTP/1.0"), 200),
        (request("GET /v1/models HTTP/1.1\nHost: [::1]:80\nUpgrade: websocket\nConnection: Upgrade"), 200),
        (post("Transfer-Encoding: chunked", b"2\r\nab\r\n0\r\n\r\n"), 200),
        (post("Expect: 100-continue\nContent-Length: 0"), 100),
    ],
    ids=lambda value: ascii(value[:60]) if isinstance(value, bytes) else value,
)
def test_a_request_that_is_none_is_told_so_in_json(port, content, expected, capsys):
    reply = sent(port, content)
    assert status(reply) == expected
    if expected >= 400:
        assert error(reply)["message"]
    assert "Traceback" not in capsys.readouterr().err


def test_a_chunk_that_is_none_ends_the_connection_without_a_word_in_the_log(port, echo, capsys):
    reply = sent(port, post("Transfer-Encoding: chunked", b"zz\r\nab\r\n"))
    assert reply == b"" or status(reply) == 400
    assert not echo.bodies
    assert "Traceback" not in capsys.readouterr().err


def test_a_client_that_goes_with_half_a_body_leaves_no_traceback(port, echo, capsys):
    with connected(port) as connection:
        connection.sendall(post("Content-Length: 100", b"half"))
    assert status(sent(port, GET)) == 200
    err = wait_for_log(capsys, "(client left)")
    assert "Traceback" not in err
    assert len(echo.bodies) == 1


def wait_for_log(capsys, text):
    err, until = "", time.monotonic() + 10
    while text not in err and time.monotonic() < until:
        err += capsys.readouterr().err
        time.sleep(0.01)
    assert text in err
    return err


def test_a_body_beyond_the_limit_is_refused_while_it_comes_and_the_connection_lives(echo):
    with listening(echo, max_body=1000) as (port, _), connected(port) as connection:
        connection.sendall(post("Transfer-Encoding: chunked"))
        for _ in range(20):
            connection.sendall(b"64\r\n" + b"x" * 100 + b"\r\n")
        assert status(answer(connection)) == 413
        connection.sendall(b"0\r\n\r\n" + GET)
        assert status(answer(connection)) == 200
    assert echo.bodies == [b""]


def test_what_is_no_http_behind_an_answer_ends_the_connection_without_a_word(echo, capsys):
    with listening(echo, max_body=10) as (port, _), connected(port) as connection:
        connection.sendall(post("Transfer-Encoding: chunked", b"b\r\n" + b"x" * 11 + b"\r\n"))
        assert status(answer(connection)) == 413
        connection.sendall(b"zz\r\n")
        assert answer(connection) == b""
    assert "fault" not in capsys.readouterr().err


def test_a_body_that_does_not_come_is_not_waited_for(echo):
    with listening(echo, body_timeout=0.1) as (port, _):
        reply = sent(port, post("Content-Length: 10", b"x"))
    assert status(reply) == 408
    assert b"connection: close" in reply.lower()


@pytest.mark.parametrize("before", [b"", GET])
@pytest.mark.parametrize("begun", [b"", b"GET /v1/mo", b"GET / HTTP/1.1\r\nHost: loc"])
def test_a_request_that_does_not_come_is_not_waited_for(monkeypatch, echo, before, begun):
    monkeypatch.setattr(connections, "_HEAD_SECONDS", 0.2)
    with listening(echo) as (port, http), connected(port) as connection:
        if before:
            connection.sendall(before)
            assert status(answer(connection)) == 200
        if before and not begun:
            return  # an idle connection has uvicorn's own time
        connection.sendall(begun)
        assert answer(connection) == b""
        assert not http.server_state.connections


def test_an_answer_that_takes_long_is_no_request_that_does_not_come(monkeypatch):
    monkeypatch.setattr(connections, "_HEAD_SECONDS", 0.05)

    async def slow(scope, receive, send):
        await receive()
        await asyncio.sleep(0.3)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    with listening(slow) as (port, _):
        assert status(sent(port, GET)) == 200


def test_a_head_in_many_pieces_has_a_limit(port):
    with connected(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        try:
            for number in range(3 * MOST_BYTES // 1000):
                connection.sendall(b"X-%d: " % number + b"x" * 1000 + b"\r\n")
                time.sleep(0.002)
        except (ConnectionError, TimeoutError):
            pass
        reply = answer(connection)
    assert reply == b"" or status(reply) == 431


def test_connections_beyond_the_limit_are_told_so_and_those_before_go_on(echo):
    with listening(echo, max_connections=3) as (port, _):
        first = [connected(port) for _ in range(3)]
        try:
            for one in first:
                one.sendall(GET)
                assert status(answer(one)) == 200
            reply = sent(port, GET)
            assert (status(reply), error(reply)["code"]) == (503, "too_many_connections")
            assert b"retry-after" in reply.lower()
            for one in first:
                one.sendall(GET)
                assert status(answer(one)) == 200
        finally:
            for one in first:
                one.close()
        until = time.monotonic() + 10
        while status(sent(port, GET)) != 200 and time.monotonic() < until:
            time.sleep(0.01)
        assert status(sent(port, GET)) == 200


def test_two_hundred_connections_that_open_and_drop_leave_nothing(echo):
    with listening(echo) as (port, http):
        for number in range(200):
            with connected(port) as connection:
                connection.sendall((b"", GET[:20], GET, post("Content-Length: 100", b"x"))[number % 4])
        until = time.monotonic() + 10
        while (http.server_state.connections or http.server_state.tasks) and time.monotonic() < until:
            time.sleep(0.01)
        assert not http.server_state.connections
        assert not http.server_state.tasks
        assert status(sent(port, GET)) == 200


def test_a_connection_outlives_the_five_seconds_that_clients_keep_it_for():
    """Or they would now and then ask on one that is being closed."""
    with listening(Echo()) as (_, http):
        assert http.config.timeout_keep_alive > 5


def test_requests_on_one_connection_are_answered_one_after_the_other(port):
    with connected(port) as connection:
        connection.sendall(GET * 5)
        received = b""
        while received.count(b"HTTP/1.1 200") < 5:
            received += connection.recv(65536)


async def streams(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for _ in range(3):
        await send({"type": "http.response.body", "body": b"data: x\n\n", "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b""})


def test_a_stream_is_not_held_back():
    with listening(streams) as (port, _), connected(port) as connection:
        connection.sendall(GET)
        received, seen = b"", []
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(65536)
            seen.append(received.count(b"data: x"))
    assert len(set(seen)) >= 3


def test_a_failure_in_a_stream_is_no_end_of_it():
    async def fails(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise KeyError

    with listening(fails) as (port, _):
        reply = sent(port, GET)
    assert b"half" in reply
    assert not reply.endswith(b"0\r\n\r\n")


def test_the_log_shows_a_path_as_it_was_sent(port, capsys):
    sent(port, request("GET /%0d%0afake%1b[2J?secret=%0a HTTP/1.1\nHost: localhost"))
    err = wait_for_log(capsys, "/%0d%0afake%1b[2J")
    assert err.count("\n") == 1
    assert "secret" not in err


def test_no_file_left_for_new_connections_is_one_line_however_often_it_is_tried(port, capsys):
    """asyncio tells a traceback of each of a hundred attempts a second."""
    wait_until_told()
    capsys.readouterr()
    faults, loop = LoopFaults(), asyncio.new_event_loop()
    for _ in range(300):
        for error in (OSError(errno.EMFILE, "Too many open files"), KeyError("my-prompt"), None):
            faults(loop, {"message": "socket.accept() out of system resource", "exception": error})
    loop.close()
    wait_until_told()
    err = capsys.readouterr().err
    assert err.count("\n") == 3
    assert "Too many files are open" in err
    assert not any(word in err for word in ("Traceback", "my-prompt"))


def test_random_bytes_leave_the_server_as_it_was(port, capsys):
    good = [GET, post("Content-Length: 2", b"{}"), post("Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n")]
    pieces = [b"\r\n", b"\x00", b"\xff", b": ", b" ", b"HTTP/1.1", b"Host: evil.example\r\n", b"Content-Length: 5\r\n"]
    for case in rounds(150):
        draw = random.Random(case)
        content = bytearray(draw.choice(good) * draw.randrange(1, 3))
        for _ in range(draw.randrange(1, 6)):
            place = draw.randrange(len(content))
            content[place : place + draw.randrange(4)] = draw.choice(pieces)
        with connected(port) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            reply = answer(connection)
        assert reply == b"" or 100 <= status(reply) < 500, (case, bytes(content), reply)
    assert status(sent(port, GET)) == 200
    wait_until_told()
    assert "Traceback" not in capsys.readouterr().err
