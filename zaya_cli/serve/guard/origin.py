"""Which pages in a browser may ask. A page can post to any address without asking first, so the Origin of every request
is looked at, not only that of preflights."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from zaya_cli.serve.guard.host import split_host
from zaya_cli.serve.guard.refusal import refuse
from zaya_cli.serve.guard.scope import header_values, shown
from zaya_cli.serve.protocol.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PORTS = {"http": 80, "https": 443}
_ANY = "*"
_METHODS = "GET, POST, OPTIONS"
_HEADERS = frozenset({"authorization", "x-api-key", "content-type", "accept"})
_HEADERS_OF_CLIENTS = "x-stainless-"  # OpenAI's library adds a dozen
_SECONDS_TO_KEEP = "600"
_READABLE = "x-request-id, retry-after"


class Origin:
    """Status 403 for pages of others, unless they are allowed: these also get the headers that let them read."""

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]):
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origins = header_values(scope, "origin")
        is_allowed = len(origins) == 1 and self._is_allowed(origins[0])
        if origins and not is_allowed and not (len(origins) == 1 and _is_own(origins[0], scope)):
            await refuse(send, _refusal(origins))
        elif origins and scope["method"] == "OPTIONS" and header_values(scope, "access-control-request-method"):
            await _answer_preflight(scope, origins[0] if is_allowed else None, send)
        elif is_allowed:
            await self._app(scope, receive, _readable(origins[0], send))
        else:
            await self._app(scope, receive, send)

    def _is_allowed(self, origin: str) -> bool:
        return _ANY in self._allowed or origin.lower() in self._allowed


def _is_own(origin: str, scope: Scope) -> bool:
    """Whether the page came from this server, by the name that it is called by now."""
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    host = next(iter(header_values(scope, "host")), "")
    default = _PORTS.get(parts.scheme)
    if default is None or parts.path or parts.query or (called := split_host(host)) is None:
        return False
    return split_host(parts.netloc) is not None and (parts.hostname or "", port or default) == (
        called[0], called[1] or default,
    )  # fmt: skip


def _refusal(origins: list[str]) -> ApiError:
    message = (
        f"Pages of {shown(', '.join(origins))} may not ask this server: start it with --cors-origin to allow them."
    )
    return ApiError(403, message, "permission_error", code="origin_not_allowed")


async def _answer_preflight(scope: Scope, origin: str | None, send: Send) -> None:
    """What a browser asks before a request that is more than a form's. origin: None for a page of our own."""
    headers = [] if origin is None else _preflight_headers(scope, origin)
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": 204, "headers": encoded})
    await send({"type": "http.response.body", "body": b""})


def _preflight_headers(scope: Scope, origin: str) -> list[tuple[str, str]]:
    asked = ",".join(header_values(scope, "access-control-request-headers")).lower().split(",")
    names = sorted({name for one in asked if _may_send(name := one.strip())} | _HEADERS)
    headers = [
        ("access-control-allow-origin", origin),
        ("access-control-allow-methods", _METHODS),
        ("access-control-allow-headers", ", ".join(names)),
        ("access-control-max-age", _SECONDS_TO_KEEP),
        ("vary", "Origin"),
    ]
    if header_values(scope, "access-control-request-private-network") == ["true"]:
        headers.append(("access-control-allow-private-network", "true"))
    return headers


def _may_send(name: str) -> bool:
    return name.startswith(_HEADERS_OF_CLIENTS) and name.replace("-", "").isalnum() and name.isascii()


def _readable(origin: str, send: Send) -> Send:
    """`send` that lets the page read the answer, also one that refuses."""
    added = {"access-control-allow-origin": origin, "access-control-expose-headers": _READABLE, "vary": "Origin"}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in added.items()]

    async def send_readable(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *encoded]}
        await send(message)

    return send_readable
