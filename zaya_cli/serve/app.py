"""The application: which path is answered by what."""

from __future__ import annotations

from collections.abc import Iterator

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from zaya_cli.serve.protocol.errors import ApiError
from zaya_cli.serve.protocol.json_text import JsonResponse, error_response
from zaya_cli.serve.protocol.served import Served
from zaya_cli.serve.routes.endpoint import Endpoint, answered
from zaya_cli.serve.routes.generation import chat_completions, chat_control, completions
from zaya_cli.serve.routes.models import model, models, props
from zaya_cli.serve.routes.state import health, metrics, slots
from zaya_cli.serve.routes.tokens import apply_template, detokenize, tokenize, tokenizer_info, worked_out
from zaya_cli.serve.service import Service
from zaya_cli.serve.settings import ServeSettings

_VERSION = "/v1"


def application(service: Service, settings: ServeSettings) -> Starlette:
    """All endpoints over one service, without any guard in front. Each is there with /v1 and without."""
    served = Served.of(service.runtime, settings)
    routes = [
        Route(prefix + path, answered(endpoint), methods=[method])
        for method, path, endpoint in _endpoints(service, served)
        for prefix in (_VERSION, "")
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_such_endpoint})
    app.router.redirect_slashes = False  # one would lead to what a Host header says
    return app


def _endpoints(service: Service, served: Served) -> Iterator[tuple[str, str, Endpoint]]:
    yield "POST", "/chat/completions", chat_completions(service, served)
    yield "POST", "/chat/completions/control", chat_control(service)
    yield "POST", "/completions", completions(service, served)
    yield "GET", "/models", models(service, served)
    yield "GET", "/models/{name:path}", model(service, served)
    yield "POST", "/tokenize", worked_out(service, served, tokenize)
    yield "POST", "/detokenize", worked_out(service, served, detokenize)
    yield "POST", "/apply-template", worked_out(service, served, apply_template)
    yield "GET", "/tokenizer_info", _tokenizer_info(served)
    yield "GET", "/health", health(service)
    yield "GET", "/props", props(service, served)
    yield "GET", "/slots", slots(service, served)
    yield "GET", "/metrics", metrics(service)


def _tokenizer_info(served: Served) -> Endpoint:
    async def answer(_: Request) -> Response:
        return JsonResponse(tokenizer_info(served))

    return answer


async def _no_such_endpoint(request: Request, error: Exception) -> Response:
    """Paths of OpenAI's protocol that this server does not have are told from those that nobody has."""
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{request.method} is not allowed here; {allowed} is."
        return error_response(ApiError(405, message, code="method_not_allowed", headers=error.headers))
    if error.status_code == 404 and path.startswith(f"{_VERSION}/"):
        message = f"{path[:80]} is not supported by this server."
        return error_response(ApiError(501, message, "not_implemented", code="unsupported"))
    return error_response(ApiError(error.status_code, f"There is no {path[:80]} here.", code="not_found"))
