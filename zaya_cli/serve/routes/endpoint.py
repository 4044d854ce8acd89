"""What all endpoints have in common: their errors, and an answer that is told in one of two ways."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from zaya_cli.serve.event_stream import EventStream, gone, told
from zaya_cli.serve.failure_log import report_failure
from zaya_cli.serve.job import Job
from zaya_cli.serve.mailbox import Mailbox, Notice
from zaya_cli.serve.protocol.answers.teller import Teller
from zaya_cli.serve.protocol.errors import error_of
from zaya_cli.serve.protocol.json_text import JsonResponse, error_response
from zaya_cli.serve.service import Service
from zaya_core.engine.events import Failed

Endpoint = Callable[[Request], Awaitable[Response]]
_FAILED = 500
_CLIENT_LEFT = 499  # nginx's status; nobody reads it


def answered(endpoint: Endpoint) -> Endpoint:
    """An endpoint whose errors are answers."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_LEFT)
        except Exception as error:
            told = error_of(error)
            if told.status == _FAILED:
                report_failure(error)
            return error_response(told)

    return answer


def owner_of(request: Request) -> str:
    """Whose key a request came with, as the guard in front has noted it."""
    return str(request.scope.get("state", {}).get("owner", ""))


async def tell(request: Request, service: Service, job: Job, teller: Teller, is_stream: bool) -> Response:
    """Do a job and tell of it. However the client leaves, its rows are free. Raises ApiError."""
    return await tell_of(request, service, await service.submit(job), teller, is_stream)


async def tell_of(
    request: Request,
    service: Service,
    mailbox: Mailbox,
    teller: Teller,
    is_stream: bool,
    on_close: Callable[[], Any] = lambda: None,
) -> Response:
    """Tell of a job that is open. on_close: called when nobody reads any more, or all is told. Raises ApiError."""

    def close() -> None:
        on_close()
        service.cancel(mailbox.job.id)

    if is_stream:
        return EventStream(told(teller, mailbox, service.settings.ping), close)
    try:
        return await _unless_gone(request, _whole(service, teller, mailbox))
    finally:
        close()


async def _whole(service: Service, teller: Teller, mailbox: Mailbox) -> Response:
    async for arrivals in mailbox.arrivals():
        for index, event in arrivals:
            if isinstance(event, Failed):
                raise error_of(event.error)
            if not isinstance(event, Notice):
                teller.take(index, event)
    if mailbox.job.keeps_tokens:  # log-probabilities may be millions of numbers
        return await service.work(lambda: JsonResponse(teller.answer()))
    return JsonResponse(teller.answer())


async def _unless_gone(request: Request, work: Any) -> Response:
    """The response, or none that anybody would read. Raises what the work does."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(gone(request.receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else Response(status_code=_CLIENT_LEFT)
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
