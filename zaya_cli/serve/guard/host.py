"""By which names the server may be called: a page in a browser whose own name was bound anew to this machine (DNS
rebinding) calls it by a strange one."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import TYPE_CHECKING

from zaya_cli.serve.guard.refusal import refuse
from zaya_cli.serve.guard.scope import header_values, shown
from zaya_cli.serve.protocol.errors import ApiError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9._-]+))(?::(\d{1,5}))?")
# How programs in a container call the machine that it runs on; nobody can register these names.
_OF_CONTAINERS = ("host.docker.internal", "host.containers.internal")


def split_host(text: str) -> tuple[str, int | None] | None:
    """(name in lower case without a last dot, port) of a Host header; an IPv6 address without brackets; None for what
    is none."""
    found = _HOST.fullmatch(text.strip().lower())
    if found is None or not (name := found[1] or found[2].removesuffix(".")):
        return None
    return name, None if found[3] is None else int(found[3])


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine and can be reached from it alone."""
    try:
        return _address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


class Host:
    """Status 403 for a strange name, 400 for none. Where clients must have a key and other machines reach the server,
    names are checked only if some are given: a strange page has no key."""

    def __init__(self, app: ASGIApp, host: str, names: tuple[str, ...], has_keys: bool):
        self._app = app
        own = socket.gethostname().lower()
        self._names = {*names, own, f"{own}.local", host.lower(), *_OF_CONTAINERS}
        self._endings = tuple(name[1:] for name in names if name.startswith("*."))
        self._checks = is_loopback(host) or not has_keys or bool(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (refusal := self._refusal(scope)) is not None:
            await refuse(send, refusal)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        hosts = header_values(scope, "host")
        if not scope["path"].startswith("/"):
            return ApiError(400, "The request must name a path, such as /v1/models, and no whole address.")
        if not hosts and scope.get("http_version") == "1.0":
            return None  # no browser's
        if len(hosts) != 1 or (parsed := split_host(hosts[0])) is None:
            return ApiError(400, "The request must have one Host header with a name or an address.")
        if not self._checks or self._is_own(parsed[0], scope):
            return None
        message = f"This server is not called {shown(parsed[0])}: start it with --allowed-host to use that name."
        return ApiError(403, message, "permission_error", code="host_not_allowed")

    def _is_own(self, name: str, scope: Scope) -> bool:
        if name in self._names or name.endswith(self._endings) or is_loopback(name):
            return True
        try:
            address = _address(name)
        except ValueError:
            return False
        is_reached_by = name == (scope.get("server") or ("",))[0]
        return address.is_private or address.is_link_local or is_reached_by


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Raises ValueError for a name. An IPv4 address in the form of IPv6 is the IPv4 one."""
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address
