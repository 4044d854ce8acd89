"""One request to an application in this process, as uvicorn would hand it over."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

from zaya_cli.serve.guard.chain import guarded
from zaya_cli.serve.notes import wait_until_told
from zaya_cli.serve.settings import ServeSettings


@dataclass
class Reply:
    """What came back; `status` is 0 for nothing."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self):
        return json.loads(self.body)["error"]


@dataclass
class Echo:
    """Routes that answer 200 and keep what they have seen."""

    scopes: list = field(default_factory=list)
    bodies: list = field(default_factory=list)

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        self.bodies.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


async def never():
    await asyncio.Event().wait()


def ask(app, method="GET", path="/v1/models", headers=(), body=b"", host="localhost:8080", parts=None, **scope):
    """headers: (name, value) pairs. host: None for no Host header. parts: messages to receive, in place of the body;
    an exception among them is raised, None waits for ever."""
    reply = Reply()
    messages = list(parts) if parts is not None else [{"type": "http.request", "body": body, "more_body": False}]
    sent = [("host", host), *headers] if host is not None else list(headers)

    async def receive():
        message = messages.pop(0) if messages else None
        if message is None:
            await never()
        return message

    async def send(message):
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {name.decode(): value.decode("latin-1") for name, value in message["headers"]}
        else:
            reply.body += message.get("body", b"")

    whole = {
        "type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(),
        "query_string": b"", "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8080),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent], **scope,
    }  # fmt: skip
    try:
        asyncio.run(app(whole, receive, send))
    finally:
        wait_until_told()
    return reply


def behind_guards(app=None, **settings):
    return guarded(app or Echo(), ServeSettings(**settings))
