"""What every answer carries: an id that the log has, too, the date, and that nobody is to keep or guess it."""

from __future__ import annotations

import secrets
from email.utils import formatdate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Stamp:
    """Adds headers, where the routes have not set them; the id is `scope["state"]["request_id"]`."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def stamped(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _stamped(list(message.get("headers", ())), request_id)}
            await send(message)

        await self._app(scope, receive, stamped)


def _stamped(headers: list[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    present = {name.lower() for name, _ in headers}
    own = ((b"date", formatdate(usegmt=True).encode()), (b"x-request-id", request_id.encode()), *_ALWAYS)
    return [*headers, *((name, value) for name, value in own if name not in present)]
