"""`/v1/chat/completions`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from zaya_cli.serve.protocol.body import parse_body
from zaya_cli.serve.protocol.asks.chat import read_chat
from zaya_cli.serve.protocol.answers.chat_teller import ChatTeller
from zaya_cli.serve.protocol.served import Served
from zaya_cli.serve.routes.endpoint import Endpoint, owner_of, tell
from zaya_cli.serve.service import Service


def chat_completions(service: Service, served: Served) -> Endpoint:
    """Answer a conversation."""

    async def answer(request: Request) -> Response:
        service.expect_ready()
        content, owner = await request.body(), owner_of(request)
        chat = await service.work(lambda: read_chat(parse_body(content), served, owner))
        return await tell(
            request,
            service,
            chat.job,
            lambda mailbox: ChatTeller(chat, mailbox, served.tokenizer),
            chat.telling.is_stream,
        )

    return answer
