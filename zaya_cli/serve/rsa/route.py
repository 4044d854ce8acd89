"""A chat with `rsa`, from its body to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from zaya_cli.serve.protocol.served import Served
from zaya_cli.serve.routes.endpoint import owner_of, tell_of
from zaya_cli.serve.rsa.ask import read_rsa_chat
from zaya_cli.serve.rsa.run import RsaRun
from zaya_cli.serve.rsa.summary import RsaTeller
from zaya_cli.serve.service import Service
from zaya_core.rsa.prompt import aggregation_of

MOST_RUNS = 2  # at once; others wait for their turn in the queue, as requests wait for a row


def rsa_answers(service: Service, served: Served) -> Callable[[Request, Mapping[str, Any]], Awaitable[Response]]:
    """Answers bodies that ask for RSA."""
    places, aggregation = asyncio.Semaphore(MOST_RUNS), aggregation_of(service.runtime.folder)

    async def answer(request: Request, body: Mapping[str, Any]) -> Response:
        owner = owner_of(request)
        asked = await service.work(lambda: read_rsa_chat(body, served, aggregation, owner))
        teller = RsaTeller(asked.chat, served.tokenizer)
        mailbox = service.open(asked.chat.job)
        running = asyncio.ensure_future(RsaRun(service, served, asked, mailbox, teller).drive(places))
        return await tell_of(request, service, mailbox, teller, asked.chat.telling.is_stream, running.cancel)

    return answer
