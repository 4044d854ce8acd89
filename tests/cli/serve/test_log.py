"""The log has one line for a request, which steers no terminal and holds no prompt and no key."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest

from tests.cli.serve.asking import Echo, ask, behind_guards
from zaya_cli.serve.notes import wait_until_told

LINE = re.compile(r"zaya: \d\d:\d\d:\d\d 127\.0\.0\.1 POST /v1/chat/completions 200 \d+\.\d\d s req_[0-9a-f]{24}\n")


def test_a_request_is_one_line_without_anything_that_is_secret(capsys):
    secrets = {"key": "some-secret-key", "prompt": "my-prompt", "query": "my-query", "cookie": "my-cookie"}
    headers = [("authorization", f"Bearer {secrets['key']}"), ("cookie", secrets["cookie"])]
    guards = behind_guards(api_keys=(secrets["key"],))
    reply = ask(
        guards, "POST", "/v1/chat/completions", headers, json.dumps({"prompt": secrets["prompt"]}).encode(),
        query_string=f"q={secrets['query']}".encode(),
    )  # fmt: skip
    captured = capsys.readouterr()
    assert captured.out == ""
    assert LINE.fullmatch(captured.err)
    assert reply.headers["x-request-id"] in captured.err
    assert not [secret for secret in secrets.values() if secret in captured.err]


@pytest.mark.parametrize(
    "text", ["\r\nfake 200", "\n", "\x1b[2J", "\x9b31m", "\u202e", "\x00", "\x7f", "\t", "\u2028"], ids=ascii
)
def test_no_path_writes_a_line_of_its_own_or_steers(capsys, text):
    for raw in (f"/{text}".encode(), None):
        ask(behind_guards(), path=f"/{text}", raw_path=raw)
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]", err)


def test_a_method_is_shown_as_well(capsys):
    ask(behind_guards(), "GET\n\x1b[1m")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_a_long_path_is_cut(capsys):
    ask(behind_guards(), path="/" + "x" * 5000)
    assert len(capsys.readouterr().err) < 400


def test_programs_that_ask_for_health_every_second_fill_no_log(capsys):
    ask(behind_guards(), path="/health")
    assert capsys.readouterr().err == ""


async def failing(scope, receive, send):
    raise KeyError("my-prompt")


async def failing_in_the_middle(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise KeyError("my-prompt")


def test_an_error_of_a_route_is_a_500_that_tells_nothing(capsys):
    reply = ask(behind_guards(failing), "POST")
    assert (reply.status, reply.error["type"]) == (500, "server_error")
    err = capsys.readouterr().err
    assert "KeyError" in err
    assert "Traceback" not in err
    assert "my-prompt" not in err + reply.body.decode()


def test_an_error_in_the_middle_of_a_stream_breaks_it_off(capsys):
    with pytest.raises(KeyError):  # upon which the connection is closed, without an end of the body
        ask(behind_guards(failing_in_the_middle), "POST")
    err = capsys.readouterr().err
    assert "my-prompt" not in err
    assert "(broken off)" in err


@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ValueError])
def test_a_log_that_nobody_reads_any_more_ends_nothing(monkeypatch, capsys, error):
    def gone(text):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("zaya_cli.serve.notes.write_note", gone)
        assert ask(behind_guards(Echo()), "POST").status == 200
    ask(behind_guards(Echo()), "POST")
    assert capsys.readouterr().err.count("\n") == 1


def test_a_log_whose_reader_takes_nothing_holds_up_no_answer(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr("zaya_cli.serve.notes.write_note", lambda line: release.wait(30))
    monkeypatch.setattr("tests.cli.serve.asking.wait_until_told", lambda: None)
    guards, started = behind_guards(Echo()), time.monotonic()
    for _ in range(1100):
        assert ask(guards, "POST").status == 200
    release.set()
    wait_until_told(20)
    assert time.monotonic() - started < 25


def test_every_answer_has_an_id_of_its_own_a_date_and_is_not_kept():
    guards = behind_guards(api_keys=("some-key",))
    replies = [ask(guards, headers=headers) for headers in ([("x-api-key", "some-key")], [])]
    assert len({reply.headers["x-request-id"] for reply in replies}) == 2
    for reply in replies:
        assert reply.headers["date"].endswith("GMT")
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"


def test_what_a_route_says_of_these_headers_counts():
    async def route(scope, receive, send):
        headers = [(b"X-Request-ID", b"mine"), (b"cache-control", b"max-age=60")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    reply = ask(behind_guards(route))
    assert (reply.headers["X-Request-ID"], reply.headers["cache-control"]) == ("mine", "max-age=60")
    assert "x-request-id" not in reply.headers
