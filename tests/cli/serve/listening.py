"""A server over routes of a test's own, in a thread of this process, and raw connections to it."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager

from zaya_cli.serve.guard.chain import guarded
from zaya_cli.serve.http.http_server import HttpServer
from zaya_cli.serve.http.sockets import listen
from zaya_cli.serve.notes import wait_until_told
from zaya_cli.serve.settings import ServeSettings


@contextmanager
def listening(app, is_made_in_loop=False, **settings):
    """Yields (port, HttpServer) of `app` behind all guards; is_made_in_loop: `app` makes it, in the server's loop."""
    chosen = ServeSettings(port=0, drain=0, **settings)
    sockets = listen(chosen)
    port = sockets[0].getsockname()[1]
    started, servers = threading.Event(), []

    async def serve():
        http = HttpServer(guarded(app() if is_made_in_loop else app, chosen), chosen)
        servers.append((http, asyncio.get_running_loop()))
        serving = asyncio.ensure_future(http.serve(sockets))
        while not http.started:
            await asyncio.sleep(0.001)
        started.set()
        await serving

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(10)
    http, loop = servers[0]
    try:
        yield port, http
    finally:
        loop.call_soon_threadsafe(http.stop)
        thread.join(20)
        assert not thread.is_alive()
        wait_until_told()


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def request(text):
    """The bytes of a request from its lines."""
    return "\r\n".join(line.strip() for line in text.strip().splitlines()).encode() + b"\r\n\r\n"


def answer(connection):
    """All until the other side closes, or has sent a whole answer."""
    received = b""
    while True:
        head, gap, body = received.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100"):
            return received
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if gap and (len(body) >= int(length[0].split(b":")[1]) if length else body.endswith(b"0\r\n\r\n")):
            return received
        try:
            more = connection.recv(65536)
        except ConnectionResetError:
            return received
        if not more:
            return received
        received += more


def sent(port, content):
    """What a server says to these bytes."""
    with connected(port) as connection:
        connection.sendall(content)
        return answer(connection)
