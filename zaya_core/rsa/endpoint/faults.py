"""What a server does wrong, in one sentence, and whether another attempt may heal it."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zaya_core.errors import NetworkError
from zaya_core.redaction import redacted

if TYPE_CHECKING:
    from zaya_core.rsa.endpoint.reply import Reply

NOT_THERE = (404, 405, 501)
NOT_UNDERSTOOD = (400, 415, 422)
_PASSING = (408, 409, 425, 429)


class ServerFault(NetworkError):
    """Any fault of a server.

    may_pass: whether the same request may succeed later. pause: seconds it asks to wait. partial: what came of the
    answer.
    """

    may_pass = True
    pause: float | None = None
    partial: Reply | None = None


class StatusError(ServerFault):
    """An error status, or an error object in a stream. body: what came with it."""

    def __init__(self, where: str, status: int, body: Any, headers: Mapping[str, str] | None = None):
        hint = " Set OPENAI_API_KEY." if status in (401, 403) else ""
        self.detail = detail_of(body)
        self.pause = pause_of(headers or {})
        wait = f" and asks to wait {self.pause:,.0f} s" if self.pause is not None and self.pause >= 1 else ""
        super().__init__(f"{where} answered {status} ({self.detail}){wait}.{hint}")
        self.status = status
        self.body = body
        self.may_pass = status in _PASSING or (status >= 500 and status not in (501, 505))


class BrokenStream(ServerFault):
    """A connection that ended before its answer did."""


class Malformed(ServerFault):
    """A response that is not what the protocol says."""


class Redirected(ServerFault):
    """A redirect to another server than the one that a person named."""

    may_pass = False


class Unreachable(ServerFault):
    """What no repetition heals: redirects without end, an address that is none."""

    may_pass = False


def detail_of(body: Any) -> str:
    """The words of an error, in one line."""
    if isinstance(body, Mapping):
        inner = body.get("error", body)
        body = (inner.get("message") or inner.get("detail") or inner) if isinstance(inner, Mapping) else inner
    return one_line(body) or "no details"


def one_line(value: object) -> str:
    """For messages: at most 200 characters, without secrets."""
    return " ".join(redacted(str(value)).split())[:200].rstrip(".")


def pause_of(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for, as a number or a date; None without it, and for what is neither."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        return seconds if seconds >= 0 and not math.isnan(seconds) else None
    try:
        when = email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError, OSError):
        return None
    return max(0.0, when - time.time())
