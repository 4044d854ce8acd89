"""What a client is told when a request goes no further: a status, and a body as OpenAI's API has it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Send

Header = tuple[str, str]


@dataclass(frozen=True)
class Refusal:
    """message: one sentence for people. type, code: for programs. headers: beside those of any body."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    headers: tuple[Header, ...] = ()

    @property
    def body(self) -> bytes:
        """The JSON of the error."""
        error = {"message": self.message, "type": self.type, "param": None, "code": self.code}
        return json.dumps({"error": error}).encode()

    def all_headers(self) -> list[tuple[bytes, bytes]]:
        """As ASGI has them."""
        own = (("content-type", "application/json"), ("content-length", str(len(self.body))))
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*own, *self.headers)]

    async def send(self, send: Send) -> None:
        """The whole answer."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.all_headers()})
        await send({"type": "http.response.body", "body": self.body})


def unavailable(message: str, code: str, seconds: int) -> Refusal:
    """Status 503, which clients try again after so many seconds."""
    return Refusal(503, message, "service_unavailable", code, (("retry-after", str(seconds)),))
