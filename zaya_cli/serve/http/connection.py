"""One connection of a client: uvicorn's, with a limit to their number, a time for the head of a request, and errors in
the words of the API."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from zaya_cli.serve.guard.head import MOST_BYTES
from zaya_cli.serve.guard.refusal import CLOSING, body_of, headers_of, refuse
from zaya_cli.serve.protocol.errors import ApiError, unavailable

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

_HEAD_SECONDS = 30.0
_TOO_MANY = unavailable("Too many connections are open: try again in a few seconds.", "too_many_connections")
_TOO_MANY.headers.update(CLOSING)


class Connection(H11Protocol):
    """`config.limit_concurrency` is one more than the connections that are answered, where uvicorn's own refusal would
    begin."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Those beyond the limit are told so when they ask, unless they are as many again."""
        super().connection_made(transport)
        most = self.limit_concurrency - 1 if self.limit_concurrency else 0
        if len(self.connections) > 2 * most:
            transport.abort()
        elif len(self.connections) > most:
            self.limit_concurrency, self.app = None, _refuse  # type: ignore[assignment]
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """A request that has begun must be there in time, also the second one of a connection."""
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            self._wait_for_head()
        elif self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any longer."""
        if self._waiting is not None:
            self._waiting.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP. Where an answer has begun, nothing can be said any more."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            is_long = len(self.conn.trailing_data[0]) > MOST_BYTES
            what = "The head of the request is too long." if is_long else "The request is no valid HTTP."
            error = ApiError(431 if is_long else 400, what, headers=CLOSING)
            head = h11.Response(status_code=error.status, headers=headers_of(error))
            for event in (head, h11.Data(data=body_of(error)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait_for_head(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(_HEAD_SECONDS, self.transport.abort)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await refuse(send, _TOO_MANY)
