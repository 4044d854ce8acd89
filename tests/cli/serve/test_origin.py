"""Pages of others neither read nor act; those that were allowed do both, after asking as browsers do."""

from __future__ import annotations

import pytest

from tests.cli.serve.asking import Echo, ask, behind_guards

PAGE = "http://localhost:3000"
ALLOWED = {"cors_origins": (PAGE, "https://chat.example.com")}


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "DELETE"])
@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "", "http://localhost", "https://localhost:8080:1", "http://localhost:8081",
     "http://127.0.0.1:8080", "file://", "http://localhost:8080.evil.example", "http://localhost:8080@evil.example",
     "chrome-extension://abc", "http://localhost:8080/path", "localhost:8080", f"{PAGE}.evil.example", f"{PAGE}/"],
)  # fmt: skip
def test_a_request_with_a_strange_origin_reaches_nothing(origin, method):
    """A text/plain post comes without a preflight, so that the absence of CORS headers would not stop it."""
    echo = Echo()
    headers = [("origin", origin), ("content-type", "text/plain"), ("access-control-request-method", "POST")]
    reply = ask(behind_guards(echo, **ALLOWED), method, headers=headers, body=b"{}")
    assert (reply.status, echo.scopes) == (403, [])
    assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8080", "localhost:8080"),
        ("https://localhost:8080", "localhost:8080"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://localhost", "localhost"),
        ("http://localhost:80", "localhost"),
        ("https://localhost", "localhost:443"),
    ],
)
def test_the_servers_own_pages_need_no_leave(origin, host):
    reply = ask(behind_guards(), "POST", headers=[("origin", origin)], host=host)
    assert reply.status == 200
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_programs_send_no_origin_and_are_answered():
    assert ask(behind_guards(), "POST").status == 200


def preflight(origin, wanted="content-type", **settings):
    headers = [("origin", origin), ("access-control-request-method", "POST")]
    headers += [("access-control-request-headers", wanted), ("access-control-request-private-network", "true")]
    return ask(behind_guards(api_keys=("some-key",), **settings), "OPTIONS", headers=headers)


def test_an_allowed_page_may_ask_without_a_key_what_it_may_send():
    reply = preflight(
        PAGE, "authorization, X-Stainless-Lang,x-stainless-os, cookie, x-evil, x-stainless-\u00e9", **ALLOWED
    )
    assert reply.status == 204
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert reply.headers["access-control-allow-private-network"] == "true"
    allowed = reply.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "x-api-key", "x-stainless-lang", "x-stainless-os"} <= {*allowed}
    assert not {"cookie", "x-evil", "*"} & {*allowed}
    assert all(name.isascii() for name in allowed)
    assert reply.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in reply.headers


def test_an_allowed_page_reads_answers_and_refusals():
    guards = behind_guards(api_keys=("some-key",), **ALLOWED)
    for headers, status in (([("x-api-key", "some-key")], 200), ([], 401)):
        reply = ask(guards, "POST", headers=[("origin", "HTTPS://chat.example.com"), *headers])
        assert reply.status == status
        assert reply.headers["access-control-allow-origin"] == "HTTPS://chat.example.com"
        assert "x-request-id" in reply.headers["access-control-expose-headers"]


def test_all_pages_are_allowed_by_a_star_alone():
    assert preflight("http://any.example", cors_origins=("*",)).status == 204
    assert preflight("null", cors_origins=("*",)).headers["access-control-allow-origin"] == "null"


def test_two_origins_are_none():
    guards = behind_guards(**ALLOWED)
    assert ask(guards, "POST", headers=[("origin", PAGE), ("origin", PAGE)]).status == 403


def test_options_without_a_preflight_go_on_to_the_routes():
    assert ask(behind_guards(), "OPTIONS").status == 200
