"""One line on stderr for each request: who, what, status, how long. No query, no header, no body, so no prompt
and no key."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from zaya_cli.failures import show_traceback
from zaya_cli.serve.guard.refusal import refuse
from zaya_cli.serve.guard.scope import HEALTH, shown
from zaya_cli.serve.notes import tell
from zaya_cli.serve.protocol.errors import ApiError
from zaya_cli.terminal.visible import one_line

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_WITHOUT = HEALTH | {"/metrics"}  # programs ask them every few seconds
_FAILED = ApiError(500, "The server failed to answer; its log says more.", "server_error", code="internal_error")


class Log:
    """Also the last to catch an error of the routes: status 500, or a stream that breaks off."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watched = _Watched(receive, send)
        started = time.perf_counter()
        try:
            await self._app(scope, watched.receive, watched.send)
        except Exception as error:
            await _fail(error, watched)
        finally:
            if not (watched.is_complete and scope["path"] in _WITHOUT):
                tell(f"zaya: {_line(scope, watched, time.perf_counter() - started)}")


class _Watched:
    """The two ways of a request. status: None before an answer begins. has_gone: the client, before it ended."""

    def __init__(self, receive: Receive, send: Send):
        self._receive, self._send = receive, send
        self.status: int | None = None
        self.is_complete = self.has_gone = False

    async def receive(self) -> Message:
        message = await self._receive()
        self.has_gone |= message["type"] == "http.disconnect" and not self.is_complete
        return message

    async def send(self, message: Message) -> None:
        await self._send(message)
        if message["type"] == "http.response.start":
            self.status = message["status"]
        self.is_complete |= message["type"] == "http.response.body" and not message.get("more_body", False)


async def _fail(error: Exception, watched: _Watched) -> None:
    """Raises the error again where an answer has begun: the connection is closed then, and no reader takes the part for
    the whole."""
    if watched.has_gone:
        return
    tell(f"zaya: Unexpected {type(error).__name__}. Set ZAYA_DEBUG=1 for the traceback.")
    with suppress(OSError):
        show_traceback(error)
    if watched.status is not None:
        raise error
    await refuse(watched.send, _FAILED)


def _line(scope: Scope, watched: _Watched, seconds: float) -> str:
    client = (scope.get("client") or ("-",))[0]
    raw = scope.get("raw_path")
    path = raw.decode("latin-1") if raw is not None else scope["path"]
    what = f"{client} {scope['method']} {shown(path)} {watched.status or '-'} {seconds:.2f} s"
    request_id = scope.get("state", {}).get("request_id", "")
    end = "" if watched.is_complete else " (client left)" if watched.has_gone else " (broken off)"
    return one_line(f"{time.strftime('%H:%M:%S')} {what} {request_id}{end}")
