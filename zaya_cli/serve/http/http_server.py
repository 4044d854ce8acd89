"""uvicorn without what is done elsewhere here: signals, logs, and looking around ten times a second."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from zaya_cli.serve.http.connection import Connection
from zaya_cli.serve.http.faults import LoopFaults
from zaya_cli.serve.settings import ServeSettings

if TYPE_CHECKING:
    import socket

    from starlette.types import ASGIApp

_IDLE_SECONDS = 30  # of a connection; httpx keeps its own for 5 s, and must not use one that is being closed
_SECONDS_TO_CLOSE = 5  # after the last answer has ended, for clients that read slowly
_HEAD_BUFFER = 64 << 10  # bytes; longer heads are refused by `guard/head.py`, and here where they come in pieces


class HttpServer(uvicorn.Server):
    """Answers until `stop`, then waits for the connections that are busy."""

    def __init__(self, app: ASGIApp, settings: ServeSettings):
        config = uvicorn.Config(
            app, loop="asyncio", http=Connection, ws="none", lifespan="off", interface="asgi3", workers=1,
            log_config=None, log_level="critical", access_log=False, proxy_headers=False, server_header=False,
            date_header=False, timeout_keep_alive=_IDLE_SECONDS, limit_concurrency=settings.max_connections + 1,
            h11_max_incomplete_event_size=_HEAD_BUFFER,
            timeout_graceful_shutdown=math.ceil(settings.drain) + _SECONDS_TO_CLOSE,
        )  # fmt: skip
        super().__init__(config)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Take no more connections."""
        self._stopped.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        asyncio.get_running_loop().set_exception_handler(LoopFaults())
        await super().startup(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: `run.py` has them."""
        yield

    async def main_loop(self) -> None:
        """Sleep until the end."""
        await self._stopped.wait()
