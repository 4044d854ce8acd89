"""The whole server over real connections: keys and prefixes, paths, the queue, and clients that are slow or leave."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

pytest.importorskip("uvicorn", reason="the serve extra is not installed")

from tests.cli.serve.listening import answer, connected, listening, request, sent
from tests.cli.serve.program import ask, chat, close, events, first_text
from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.runtime import open_runtime
from zaya_cli.serve.app import application
from zaya_cli.serve.service import Service
from zaya_cli.serve.settings import ServeSettings

ENDLESS = 90_000


@pytest.fixture(scope="module")
def runtime(endless_folder):
    return open_runtime(RuntimeSettings(model=str(endless_folder), device="cpu"), rows=2)


@pytest.fixture
def serving(runtime):
    """A function that starts a server of a model that says ` the` for ever -> its port."""
    servers = []

    def serve(**settings):
        settings = {"rows": 2, **settings}
        services = []

        def app():
            services.append(Service(runtime, ServeSettings(**settings)))
            services[0].start()
            return application(services[0], ServeSettings(**settings))

        server = listening(app, is_made_in_loop=True, **settings)
        port, _ = server.__enter__()
        servers.append((server, services[0]))
        return port

    yield serve
    for server, service in servers:
        server.__exit__(None, None, None)
        service.close()


def rows(port, state="running", **headers):
    return ask(port, "/slots", **headers).read().decode().count(f'"state":"{state}"')


def becomes(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.005)
    return condition()


def test_a_prefix_of_one_users_prompt_is_not_reused_for_another(serving):
    port = serving(api_keys=("first-key", "second-key"))

    def cached(key):
        response = chat(port, 2, stream=False, text="a long text " * 60, Authorization=f"Bearer {key}")
        return json.loads(response.read())["usage"]["prompt_tokens_details"]["cached_tokens"]

    assert cached("first-key") == 0
    assert cached("first-key") > 0
    assert cached("second-key") == 0
    assert cached("second-key") > 0


PATHS = [
    "/../../etc/passwd", "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "//evil.example/..",
    "/v1//models", "/v1/models/", "/v1/../health", "/v1/models%00", "/%00", "/static/app.js", "/v1/models/../../x",
    "/\\evil.example", "/%5cevil.example", "/v1/%ff%fe", "/health/", "/.git/config", "/docs", "/openapi.json",
]  # fmt: skip


def test_a_path_that_is_none_is_answered_in_json_and_leads_nowhere_else(serving):
    port = serving()
    for path in PATHS:
        reply = sent(port, request(f"GET {path} HTTP/1.1\nHost: localhost"))
        head, _, body = reply.partition(b"\r\n\r\n")
        assert int(head.split()[1]) in (400, 404, 405, 501), (path, reply)
        assert b"\nlocation:" not in head.lower(), path
        assert json.loads(body)["error"]["message"]
        assert b"root:" not in body, path


def test_a_bad_body_is_refused_by_every_endpoint_that_takes_one(serving):
    port = serving()
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"messages": NaN}',
        b"[" * 10_000,
        b'{"n": ' + b"1" * 5000 + b"}",
    ):
        for path in ("/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize", "/apply-template"):
            head = f"POST {path} HTTP/1.1\nHost: localhost\nContent-Length: {len(body)}"
            reply = sent(port, request(head) + body)
            assert reply.startswith(b"HTTP/1.1 400 "), (path, body[:20], reply)
            assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["type"] == "invalid_request_error"


def test_a_full_queue_is_429_and_those_in_it_are_answered_in_their_order(serving):
    port = serving(queue=2)
    running = [chat(port, ENDLESS, text=text) for text in "ab"]
    for response in running:
        first_text(response)
    ended, threads = [], []

    def wait_in_queue(number):
        chat(port, 4, stream=False).read()
        ended.append(number)

    for number in range(2):
        threads.append(threading.Thread(target=wait_in_queue, args=(number,)))
        threads[-1].start()
        assert becomes(lambda n=number: rows(port, "waiting") == n + 1)
    response = chat(port, 4)
    assert response.status == 429
    assert 1 <= int(response.headers["retry-after"]) <= 60
    error = json.loads(response.read())["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
    close(running[0])
    for thread in threads:
        thread.join(30)
    assert ended == [0, 1]
    close(running[1])


def test_a_storm_of_clients_that_leave_frees_all_rows(serving):
    port = serving(queue=300)
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], "max_tokens": ENDLESS, "stream": True}).encode()
    content = request(f"POST /v1/chat/completions HTTP/1.1\nHost: localhost\nContent-Length: {len(body)}") + body
    open_ones = []
    for number in range(200):
        open_ones.append(connected(port))
        open_ones[-1].sendall(content[: len(content) - number % 3])
        if number % 2:
            open_ones.pop(0).close()
    for one in open_ones:
        one.close()
    assert becomes(lambda: rows(port) == rows(port, "waiting") == 0), ask(port, "/slots").read()
    assert chat(port, 2, stream=False).status == 200


def test_a_client_that_reads_slowly_holds_up_nobody(serving):
    port = serving()
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], "max_tokens": ENDLESS, "stream": True}).encode()
    with connected(port) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        slow.sendall(
            request(f"POST /v1/chat/completions HTTP/1.1\nHost: localhost\nContent-Length: {len(body)}") + body
        )
        assert slow.recv(1)
        started = time.monotonic()
        for _ in range(5):
            assert len(list(events(chat(port, 20)))) > 2
            assert ask(port).status == 200
            assert slow.recv(1)
        assert time.monotonic() - started < 20
    assert becomes(lambda: rows(port) == 0)


def test_state_pages_have_no_text_of_anybody_and_need_a_key(serving):
    port = serving(api_keys=("some-secret-key",), metrics=True)
    key = {"x-api-key": "some-secret-key"}
    running = chat(port, ENDLESS, text="my-prompt", **key)
    first_text(running)
    for path in ("/slots", "/metrics", "/props", "/v1/models"):
        assert ask(port, path).status == 401
        response = ask(port, path, **key)
        text = response.read().decode()
        assert response.status == 200
        assert "my-prompt" not in text and "secret" not in text
    assert ask(port).status == 200
    close(running)


def test_a_page_of_others_cannot_make_the_server_think(serving):
    port = serving()
    body = b'{"messages": [{"role": "user", "content": "x"}]}'
    head = f"Host: localhost\nOrigin: http://evil.example\nContent-Type: text/plain\nContent-Length: {len(body)}"
    with connected(port) as connection:
        connection.sendall(request(f"POST /v1/chat/completions HTTP/1.1\n{head}") + body)
        assert answer(connection).startswith(b"HTTP/1.1 403 ")
    assert rows(port) == 0
