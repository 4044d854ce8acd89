"""Server-sent events of one answer, until it has ended or its client has gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from zaya_cli.serve.mailbox import Mailbox, Notice
from zaya_cli.serve.protocol.answers.teller import Chunk, Teller
from zaya_cli.serve.protocol.errors import error_of
from zaya_cli.serve.protocol.json_text import json_bytes
from zaya_core.engine.events import Failed

PING = b": ping\n\n"  # a comment: clients skip it, and proxies see that the connection lives
DONE = b"data: [DONE]\n\n"
_STALLED_SECONDS = 60.0  # a client that takes nothing for so long is taken for gone


async def told(teller: Teller, mailbox: Mailbox, ping: float) -> AsyncIterator[bytes]:
    """An answer's events. An error ends it without `[DONE]`, so that it cannot be taken for a whole one."""
    yield _joined(teller.begin())
    sent = time.monotonic()
    async for arrivals in mailbox.arrivals(ping):
        pieces: list[bytes] = []
        for index, event in arrivals:
            if isinstance(event, Failed):
                yield b"".join([*pieces, _joined([error_of(event.error).body])])
                return
            pieces.append(event.piece if isinstance(event, Notice) else _joined(teller.take(index, event)))
        if any(pieces) or time.monotonic() - sent >= ping:
            yield b"".join(pieces) or PING
            sent = time.monotonic()
    yield _joined(teller.end()) + DONE


def _joined(chunks: list[Chunk]) -> bytes:
    return b"".join(b"data: " + json_bytes(chunk) + b"\n\n" for chunk in chunks)


class EventStream(Response):
    """Sends pieces as they come. on_close: called when it has ended, however it did.

    State: whether a piece is on its way, and was already the last time that somebody looked.
    """

    media_type = "text/event-stream"
    charset = "utf-8"

    def __init__(self, pieces: AsyncIterator[bytes], on_close: Callable[[], None]):
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._pieces, self._on_close = pieces, on_close
        self._is_sending = self._is_stalled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the end, until the client goes, or until it has taken nothing for long, whichever is first."""
        sending = asyncio.ensure_future(self._send_all(send))
        leaving = asyncio.ensure_future(gone(receive))
        try:
            while not (sending.done() or leaving.done() or self._is_stalled):
                self._is_stalled = self._is_sending
                await asyncio.wait({sending, leaving}, timeout=_STALLED_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except OSError:  # the client has gone
            pass
        finally:
            self._on_close()
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for piece in self._pieces:
            if piece:
                self._is_sending = True
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                self._is_sending = self._is_stalled = False
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def gone(receive: Receive) -> None:
    """Wait until the client leaves."""
    while (await receive())["type"] != "http.disconnect":
        pass
