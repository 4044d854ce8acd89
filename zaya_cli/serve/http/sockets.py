"""The sockets that the server listens on, taken before the model is loaded: what cannot be is said at once."""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from typing import Any

from zaya_cli.serve.settings import ServeSettings
from zaya_core.errors import UsageError

_Address = tuple[Any, ...]  # host, port, and with IPv6 two numbers more
_BACKLOG = 256  # connections that wait to be accepted


def listen(settings: ServeSettings) -> list[socket.socket]:
    """One for each address of the host, all with the same port.

    Raises UsageError for an address that is none of this machine, for a port in use, and for one that others reach
    without a key.
    """
    addresses = _addresses(settings)
    _expect_safe(settings, [address[0] for _, address in addresses])
    sockets: list[socket.socket] = []
    port = settings.port
    try:
        for family, address in addresses:
            sockets.append(_listening(family, address, port))
            port = sockets[0].getsockname()[1]
    except OSError as error:
        for one in sockets:
            one.close()
        raise _refused(settings, error) from None
    return sockets


def url_of(sockets: list[socket.socket]) -> str:
    """Where clients find the API."""
    host, port = sockets[0].getsockname()[:2]
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def _addresses(settings: ServeSettings) -> list[tuple[socket.AddressFamily, _Address]]:
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise UsageError(
            f"--host {settings.host!r} is no address of this machine: 127.0.0.1 is this machine alone."
        ) from None
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _expect_safe(settings: ServeSettings, addresses: list[str]) -> None:
    if settings.api_keys or settings.insecure:
        return
    if not all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses):
        raise UsageError(
            f"--host {settings.host} lets other machines in, and there is no key: give --api-key-file or the variable "
            "ZAYA_API_KEY, or --insecure if everybody may ask."
        )


def _listening(family: socket.AddressFamily, address: _Address, port: int) -> socket.socket:
    one = socket.socket(family, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":  # there, SO_REUSEADDR would take the port from another program
            one.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address[0], port, *address[2:]))
        one.listen(_BACKLOG)
    except BaseException:
        one.close()
        raise
    return one


def _refused(settings: ServeSettings, error: OSError) -> UsageError:
    where = f"{settings.host}, port {settings.port}"
    if error.errno == errno.EADDRINUSE:
        return UsageError(f"{where}, is in use by another program: give another --port, or 0 for any free one.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return UsageError(f"{where}, may not be used by this user: give a --port of 1024 or more.")
    return UsageError(f"{where}, cannot be listened on ({error.strerror or error}): give another --host.")
