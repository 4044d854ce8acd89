"""The URLs that a person may have meant by `--endpoint`."""

from __future__ import annotations

import re

from zaya_core.errors import UsageError
from zaya_core.redaction import public_url

_EXAMPLE = "give one such as http://localhost:8000/v1"
_PAGE = re.compile(r"/(chat/completions|completions|models|responses)$")
_VERSION = re.compile(r"/v\d+\w*$")


def base_urls(given: str) -> list[str]:
    """Bases to try one after another. Without a path `/v1` comes first, since some servers have another protocol above.

    A missing scheme is http, https for port 443; a pasted page such as /chat/completions is cut off. Raises UsageError.
    """
    import httpx2

    text = given.strip()
    if "://" not in text:
        text = text.removeprefix("//")
        text = f"{'https' if re.search(r':443(/|$)', text) else 'http'}://{text}"
    try:
        url = httpx2.URL(text)
        is_usable = url.scheme in ("http", "https") and _is_host(url.host) and (url.port is None or url.port < 65536)
    except (ValueError, TypeError, httpx2.InvalidURL):
        is_usable = False
    if not is_usable:
        raise UsageError(f"--endpoint {public_url(given)} is no URL: {_EXAMPLE}.")
    path = _PAGE.sub("", re.sub("/+", "/", url.path).rstrip("/"))
    paths = ["/v1", ""] if not path else [path] if _VERSION.search(path) else [path, f"{path}/v1"]
    return [str(url.copy_with(path=one or "/", query=None, fragment=None)).rstrip("/") for one in paths]


def base_of(url: str) -> str:
    """The base URL that a page such as /models belongs to."""
    return _PAGE.sub("", re.split("[?#]", url, maxsplit=1)[0])


def is_trusted(url: str, base: str) -> bool:
    """Whether what is meant for `base`, such as a key, may be sent to a URL: the same scheme, host and port, or https
    instead of http at the same host, at the same port or the usual one."""
    import httpx2

    to, named = httpx2.URL(url).origin, httpx2.URL(base).origin
    is_upgrade = (named.scheme, to.scheme) == ("http", "https") and to.port in (named.port, 443)
    return to == named or (is_upgrade and to.host == named.host)


def _is_host(host: str) -> bool:
    return bool(host) and not re.search(r"[%\s]", host)
