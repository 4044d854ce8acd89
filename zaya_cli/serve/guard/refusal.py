"""An error as the whole answer to a request that goes no further than a guard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Send

    from zaya_cli.serve.protocol.errors import ApiError

CLOSING = {"connection": "close"}  # where what else the client sends is not to be read


def body_of(error: ApiError) -> bytes:
    """Its JSON."""
    return json.dumps(error.body).encode()


def headers_of(error: ApiError) -> list[tuple[bytes, bytes]]:
    """Its headers with those of its body, as ASGI has them."""
    own = {"content-type": "application/json", "content-length": str(len(body_of(error)))}
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in {**own, **error.headers}.items()]


async def refuse(send: Send, error: ApiError) -> None:
    """Answer with the error."""
    await send({"type": "http.response.start", "status": error.status, "headers": headers_of(error)})
    await send({"type": "http.response.body", "body": body_of(error)})
