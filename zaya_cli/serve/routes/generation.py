"""`/v1/chat/completions`, its control, and `/v1/completions`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from zaya_cli.serve.protocol.answers.chat_teller import ChatTeller
from zaya_cli.serve.protocol.answers.completion_teller import CompletionTeller
from zaya_cli.serve.protocol.asks.chat import read_chat
from zaya_cli.serve.protocol.asks.completion import read_completion
from zaya_cli.serve.protocol.body import parse_body
from zaya_cli.serve.protocol.errors import ApiError, bad_field
from zaya_cli.serve.protocol.fields import one_of, read_fields, text
from zaya_cli.serve.protocol.json_text import JsonResponse
from zaya_cli.serve.protocol.served import Served
from zaya_cli.serve.routes.endpoint import Endpoint, owner_of, tell
from zaya_cli.serve.rsa.field import is_wanted
from zaya_cli.serve.rsa.route import rsa_answers
from zaya_cli.serve.service import Service

_END_THINKING = "reasoning_end"


def chat_completions(service: Service, served: Served) -> Endpoint:
    """Answer a conversation."""
    answer_by_rsa = rsa_answers(service, served)

    async def answer(request: Request) -> Response:
        service.expect_ready()
        content, owner = await request.body(), owner_of(request)
        body = await service.work(lambda: parse_body(content))
        if is_wanted(body):
            return await answer_by_rsa(request, body)
        chat = await service.work(lambda: read_chat(body, served, owner))
        teller = ChatTeller(chat, served.tokenizer)
        return await tell(request, service, chat.job, teller, chat.telling.is_stream)

    return answer


def completions(service: Service, served: Served) -> Endpoint:
    """Write on from prompts."""

    async def answer(request: Request) -> Response:
        service.expect_ready()
        content, owner = await request.body(), owner_of(request)
        completion = await service.work(lambda: read_completion(parse_body(content), served, owner))
        teller = CompletionTeller(completion, served.tokenizer)
        return await tell(request, service, completion.job, teller, completion.telling.is_stream)

    return answer


def chat_control(service: Service) -> Endpoint:
    """Steer an answer that is being made: `reasoning_end` closes its thinking."""

    async def answer(request: Request) -> Response:
        body = parse_body(await request.body())
        fields = read_fields(body, {"id": text, "action": one_of((_END_THINKING,))})
        for name in ("id", "action"):
            if name not in fields:
                raise bad_field(name, "is missing.")
        if not service.end_thinking(fields["id"], owner_of(request)):
            raise ApiError(404, "No answer with this id is being made.", param="id", code="not_found")
        return JsonResponse({**fields, "object": "chat.completion.control", "success": True})

    return answer
