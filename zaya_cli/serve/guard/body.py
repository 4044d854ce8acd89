"""The body of a request: read before the routes see it, up to a size and for a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from zaya_cli.serve.guard.refusal import CLOSING, refuse
from zaya_cli.serve.guard.scope import header_values
from zaya_cli.serve.protocol.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DIGITS = 20  # of a length that can be meant


class Body:
    """Status 400, 408, 413 or 415 for a body that cannot be read; a client that leaves while it sends gets nothing, and
    nobody hears of it."""

    def __init__(self, app: ASGIApp, most: int, seconds: float):
        self._app = app
        self._most = most
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (refusal := self._refusal_of_headers(scope)) is not None:
            await refuse(send, refusal)
            return
        try:
            body = await asyncio.wait_for(self._read(receive), self._seconds)
        except asyncio.TimeoutError:
            message = f"The body did not arrive within {self._seconds:g} s: send it at once."
            await refuse(send, ApiError(408, message, code="body_timeout", headers=CLOSING))
        except _TooLargeError:
            await refuse(send, self._too_large())
        else:
            if body is not None:
                await self._app(scope, _with_body(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        """None: the client has gone. Raises _TooLargeError."""
        parts, size, has_more = [], 0, True
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._most:
                raise _TooLargeError
            has_more = message.get("more_body", False)
        return b"".join(parts)

    def _refusal_of_headers(self, scope: Scope) -> ApiError | None:
        lengths, encodings = header_values(scope, "content-length"), header_values(scope, "content-encoding")
        if any(encoding.strip().lower() != "identity" for encoding in encodings):
            return ApiError(415, "The body must not be compressed: leave Content-Encoding out.", code="compressed_body")
        if len({length.strip() for length in lengths}) > 1 or (lengths and header_values(scope, "transfer-encoding")):
            return ApiError(400, "The length of the body is given twice: send one Content-Length, or chunks.")
        for length in lengths:
            text = length.strip()
            if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
                return ApiError(400, "Content-Length must be a whole number of bytes.")
            if int(text) > self._most:
                return self._too_large()
        return None

    def _too_large(self) -> ApiError:
        message = f"The body has more than {self._most:,} bytes: send less, or start the server with --max-body."
        return ApiError(413, message, code="body_too_large")


class _TooLargeError(Exception):
    pass


def _with_body(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands the whole body over, then what comes: that the client has gone."""
    is_given = False

    async def receive_whole() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_whole
