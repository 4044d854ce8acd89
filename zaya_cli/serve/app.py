"""The application: which path is answered by what."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.routing import Route

from zaya_cli.serve.protocol.served import Served
from zaya_cli.serve.routes.chat import chat_completions
from zaya_cli.serve.routes.endpoint import Endpoint, answered
from zaya_cli.serve.service import Service
from zaya_cli.serve.settings import ServeSettings


def application(service: Service, settings: ServeSettings) -> Starlette:
    """All endpoints over one service, without any guard in front."""
    served = Served.of(service.runtime, settings)
    endpoints: dict[tuple[str, str], Endpoint] = {
        ("POST", "/chat/completions"): chat_completions(service, served),
    }
    routes = [
        Route(prefix + path, answered(endpoint), methods=[method])
        for (method, path), endpoint in endpoints.items()
        for prefix in ("/v1", "")
    ]
    return Starlette(routes=routes)
