"""The guards in their order, each around the next: the cheapest first, and no body is read for a stranger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zaya_cli.serve.guard.body import Body
from zaya_cli.serve.guard.head import Head
from zaya_cli.serve.guard.host import Host
from zaya_cli.serve.guard.keys import Keys
from zaya_cli.serve.guard.log import Log
from zaya_cli.serve.guard.origin import Origin
from zaya_cli.serve.guard.stamp import Stamp

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from zaya_cli.serve.settings import ServeSettings


def guarded(app: ASGIApp, settings: ServeSettings) -> ASGIApp:
    """The application behind all guards. It sees whole bodies, and `owner` and `request_id` in `scope["state"]`."""
    within = Body(app, settings.max_body, settings.body_timeout)
    within_keys = Origin(Keys(within, settings.api_keys), settings.cors_origins)
    named = Host(within_keys, settings.host, settings.allowed_hosts, bool(settings.api_keys))
    return Log(Stamp(Head(named)))
