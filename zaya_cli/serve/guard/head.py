"""How large the head of a request may be: its path, its query and its headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zaya_cli.serve.guard.refusal import CLOSING, refuse
from zaya_cli.serve.protocol.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MOST_BYTES = 32 << 10
_MOST_HEADERS = 100


class Head:
    """Status 431 for more bytes or headers, 414 for a longer path."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (refusal := _refusal(scope)) is not None:
            await refuse(send, refusal)
        else:
            await self._app(scope, receive, send)


def _refusal(scope: Scope) -> ApiError | None:
    headers = scope["headers"]
    size = sum(len(name) + len(value) for name, value in headers)
    if size > MOST_BYTES or len(headers) > _MOST_HEADERS:
        message = (
            f"The headers have {size:,} bytes in {len(headers)} lines; the most is {MOST_BYTES:,} in {_MOST_HEADERS}."
        )
        return ApiError(431, message, code="headers_too_large", headers=CLOSING)
    if len(scope.get("raw_path") or scope["path"]) + len(scope.get("query_string", b"")) > MOST_BYTES // 4:
        return ApiError(414, f"The address is longer than {MOST_BYTES // 4:,} bytes.", headers=CLOSING)
    return None
