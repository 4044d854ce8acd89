"""Whether the server takes requests: not yet while the model loads, and no more once it was told to end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

from zaya_cli.serve.guard.refusal import refuse
from zaya_cli.serve.guard.scope import HEALTH
from zaya_cli.serve.protocol.errors import unavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

State = Literal["loading", "ready", "draining"]
_WHY = {
    "loading": unavailable("The model is being loaded: try again in a few seconds.", "loading"),
    "draining": unavailable("The server is about to end, and takes no more requests.", "draining"),
}


class Gate:
    """Hands requests to the routes while it is open, and answers 503 before and after."""

    def __init__(self) -> None:
        self.state: State = "loading"
        self._app: ASGIApp | None = None

    def open(self, app: ASGIApp) -> None:
        """From now on the routes answer."""
        self._app, self.state = app, "ready"

    def close(self) -> None:
        """What runs goes on; nothing new begins."""
        self.state = "draining"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.state == "ready" and self._app is not None:
            await self._app(scope, receive, send)
        elif scope["path"] in HEALTH:
            await self._answer_health(send)
        else:
            await refuse(send, _WHY[self.state])

    async def _answer_health(self, send: Send) -> None:
        body = json.dumps({"status": self.state}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})
