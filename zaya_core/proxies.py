"""The proxies that the environment names, as far as an address needs one.

The HTTP client reads HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY itself, but refuses to start when any of them is
odd, needed or not, and asks a proxy for this machine's own addresses. Proxy URLs may hold passwords: no message here
shows one.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from zaya_core.errors import NetworkError

_SPOKEN = ("http", "https", "socks5", "socks5h")
_NO_URL = "is no proxy's URL: write it like http://host:3128"


@dataclass(frozen=True)
class Route:
    """How a client reaches an address. proxy: a URL, None for none; by_client: as the client reads the environment."""

    proxy: str | None = field(default=None, repr=False)  # it may hold a password
    by_client: bool = False

    def client_settings(self) -> dict[str, Any]:
        """Arguments for a client of `httpx2`."""
        import httpx2

        if self.by_client:
            return {}
        return {"transport": httpx2.HTTPTransport()} if self.proxy is None else {"proxy": self.proxy}


def route_to(url: str) -> Route:
    """The way to a URL. Raises NetworkError, naming the variable, when the proxy for it cannot be used."""
    found = _proxies()
    if is_loopback(url):
        return Route()
    if not any(_problem(value) for value in found.values()):
        return Route(by_client=True)  # which knows more forms of NO_PROXY
    scheme = _needed(url, found)
    if scheme is None:
        return Route()
    if problem := _problem(found[scheme]):
        raise NetworkError(f"{_variable(scheme)} {problem}; or unset it, or name the host in NO_PROXY.")
    return Route(_with_scheme(found[scheme]))


def by_way_of(url: str) -> str:
    """For messages: ` through the proxy of HTTPS_PROXY`, or nothing."""
    scheme = None if is_loopback(url) else _needed(url, _proxies())
    return "" if scheme is None else f" through the proxy of {_variable(scheme)}"


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine, by its name or address."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _proxies() -> dict[str, str]:
    """Proxy URLs by `http`, `https` and `all`; also those of the system on Windows and macOS."""
    found = urllib.request.getproxies()
    return {scheme: found[scheme] for scheme in ("http", "https", "all") if found.get(scheme, "")}


def _needed(url: str, found: dict[str, str]) -> str | None:
    """Whose proxy is for this URL, None for none."""
    parts = urlsplit(url)
    scheme = next((one for one in (parts.scheme, "all") if one in found), None)
    if scheme is None or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return scheme


def _problem(value: str) -> str | None:
    """Why a proxy URL cannot be used and what to do, to follow the variable's name."""
    import httpx2

    try:
        url = httpx2.URL(_with_scheme(value))
        port_is_odd = url.port is not None and not 0 < url.port < 65536
    except (ValueError, TypeError, httpx2.InvalidURL):
        return _NO_URL
    if url.scheme and url.scheme not in _SPOKEN:
        advice = "write http://host:port"
        if url.scheme.startswith("socks"):
            advice = "write socks5://host:port" + ("" if _has_socks() else ", and pip install socksio")
        return f"names a proxy of the kind {url.scheme}://, which is not supported: {advice}"
    if not url.scheme or not url.host or "%" in url.host or port_is_odd:
        return _NO_URL
    if url.scheme.startswith("socks") and not _has_socks():
        return "names a SOCKS proxy, which needs a package: pip install socksio"
    return None


def _has_socks() -> bool:
    return importlib.util.find_spec("socksio") is not None


def _with_scheme(value: str) -> str:
    return value.strip() if "://" in value else f"http://{value.strip()}"


def _variable(scheme: str) -> str:
    """The variable that is set; lower case wins, as everywhere."""
    names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
    known = (name for name in names if os.environ.get(name))
    other = (name for name, value in os.environ.items() if name.lower() == names[0] and value)
    return next(known, None) or next(other, None) or "The system's proxy setting"
