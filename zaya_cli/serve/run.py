"""The life of a server: it listens, loads the model, answers, and lets running answers end when a signal comes."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from zaya_cli.failures import Interrupted
from zaya_cli.serve.guard.chain import guarded
from zaya_cli.serve.guard.gate import Gate
from zaya_cli.serve.http.http_server import HttpServer
from zaya_cli.serve.http.sockets import listen, url_of
from zaya_cli.serve.notes import tell, wait_until_told
from zaya_cli.serve.started import start_line
from zaya_cli.terminal.interrupt import StopRequest, stopping
from zaya_core.errors import GenerationError

if TYPE_CHECKING:
    import socket

    from zaya_cli.runtime import Runtime
    from zaya_cli.serve.service import Service
    from zaya_cli.serve.settings import ServeSettings

Result = TypeVar("Result")


def serve(settings: ServeSettings) -> None:
    """Serve until a signal comes; return if nobody's answer was cut by it.

    The first signal drains, a second one ends the program at once. Raises: UsageError of the address, the errors of
    loading a model, Interrupted where answers were cut, GenerationError where the model can compute no more.
    """
    sockets = listen(settings)
    try:
        asyncio.run(_serve(settings, sockets))
    finally:
        wait_until_told()


async def _serve(settings: ServeSettings, sockets: list[socket.socket]) -> None:
    loop, stopped, gate = asyncio.get_running_loop(), asyncio.Event(), Gate()
    with stopping(on_first=lambda: _wake(loop, stopped)) as stop:
        http = HttpServer(guarded(gate, settings), settings)
        url = url_of(sockets)  # uvicorn closes the sockets at the end
        serving = asyncio.create_task(http.serve(sockets))
        try:
            runtime = await _loaded(settings, stopped, stop)
            service = _open(runtime, settings, gate)
            tell(f"zaya: {start_line(runtime, settings, url)}")
            await _until_an_end(stopped.wait(), service.failed.wait(), serving)
            was_clean = await _drain(service, settings, gate, http)
            service.close()
        finally:
            http.stop()
            await serving
    if service.state == "failed":
        raise GenerationError("The model can compute no more: see the errors above, and check it with `zaya doctor`.")
    if not was_clean and stop.exit_code is not None:
        raise Interrupted(stop.exit_code)


def _wake(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    """Called by a signal, at any moment."""
    with suppress(RuntimeError):  # the loop has ended by itself
        loop.call_soon_threadsafe(stopped.set)


async def _loaded(settings: ServeSettings, stopped: asyncio.Event, stop: StopRequest) -> Runtime:
    """The model, while the gate answers 503. A signal ends the program at once: nothing is lost by it, and a thread
    that loads cannot be told to stop."""

    def load() -> Runtime:
        from zaya_cli.runtime import open_runtime

        return open_runtime(settings.runtime, settings.rows, settings.kv_memory)

    loading = _in_thread(load)
    signal = asyncio.ensure_future(stopped.wait())
    waits: list[asyncio.Future[Any]] = [loading, signal]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if stopped.is_set():
        _leave(stop.exit_code or 1)
    signal.cancel()
    return loading.result()


def _in_thread(work: Callable[[], Result]) -> asyncio.Future[Result]:
    """The result of a thread that nobody waits for when the program ends."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            loop.call_soon_threadsafe(future.set_exception, error)
        else:
            loop.call_soon_threadsafe(future.set_result, result)

    threading.Thread(target=run, name="loading", daemon=True).start()
    return future


def _leave(exit_code: int) -> NoReturn:
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(exit_code)


def _open(runtime: Runtime, settings: ServeSettings, gate: Gate) -> Service:
    """Let requests in."""
    from zaya_cli.serve.app import application
    from zaya_cli.serve.service import Service

    service = Service(runtime, settings)
    service.start()
    gate.open(application(service, settings))
    return service


async def _until_an_end(stopped: Awaitable[Any], failed: Awaitable[Any], serving: asyncio.Future[None]) -> None:
    waits = [asyncio.ensure_future(stopped), asyncio.ensure_future(failed)]
    await asyncio.wait([*waits, serving], return_when=asyncio.FIRST_COMPLETED)
    for one in waits:
        one.cancel()


async def _drain(service: Service, settings: ServeSettings, gate: Gate, http: HttpServer) -> bool:
    """Let what runs end -> whether it did within `--drain`."""
    gate.close()
    http.stop()
    if (running := service.running_jobs) and settings.drain:
        many = "one answer" if running == 1 else f"{running} answers"
        tell(f"zaya: {many} may end within {settings.drain:g} s; another signal ends at once.")
    return await service.drain(settings.drain)
