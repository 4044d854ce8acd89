"""`/health`, `/slots`, `/metrics`: how the server is doing, without any text of anybody's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from zaya_cli.serve.protocol.errors import ApiError, unavailable
from zaya_cli.serve.protocol.json_text import JsonResponse, error_response
from zaya_cli.serve.protocol.served import Served
from zaya_cli.serve.routes.endpoint import Endpoint
from zaya_cli.serve.service import Service
from zaya_core.engine.views import Counters, RowView

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_NO_FREE_SLOT = "fail_on_no_slot"


def health(service: Service) -> Endpoint:
    """Whether requests are taken; asks nobody, so that it is quick whatever the Engine is doing."""

    async def answer(_: Request) -> Response:
        if service.state == "ready":
            return JsonResponse({"status": "ok"})
        error = unavailable(service.not_ready, service.state)
        return JsonResponse({"status": service.state, **error.body}, error.status, error.headers)

    return answer


def slots(service: Service, served: Served) -> Endpoint:
    """Open requests and free rows, by llama.cpp's names where it has one."""

    async def answer(request: Request) -> Response:
        rows = await service.ask(lambda engine: engine.rows())
        listed = [_slot(served, view) for view in rows]
        free = served.rows - sum(view.state != "waiting" for view in rows)
        if free <= 0 and request.query_params.get(_NO_FREE_SLOT) == "1":
            return error_response(unavailable("No slot is free.", "no_slot"))
        idle = {"n_ctx": served.context, "state": "idle", "is_processing": False}
        return JsonResponse([{"id": place, **slot} for place, slot in enumerate([*listed, *[idle] * free])])

    return answer


def _slot(served: Served, view: RowView) -> dict[str, Any]:
    return {
        "n_ctx": served.context,
        "state": view.state,
        "is_processing": view.state != "waiting",
        "is_thinking": view.is_thinking,
        "n_prompt_tokens": view.prompt_tokens,
        "n_past": view.position,
        "n_decoded": view.generated,
        "n_thinking": view.thinking_tokens,
        "n_predict": view.max_tokens,
        "thinking_budget": view.thinking_budget,
    }


def metrics(service: Service) -> Endpoint:
    """Prometheus' text format."""

    async def answer(_: Request) -> Response:
        if not service.settings.metrics:
            raise ApiError(501, "Metrics are off: start the server with --metrics.", "not_implemented", code="off")
        counters = await service.ask(lambda engine: engine.counters)
        lines = [line for metric in _metrics(service, counters) for line in _lines(*metric)]
        return PlainTextResponse("\n".join(lines) + "\n", media_type=_PROMETHEUS)

    return answer


def _metrics(service: Service, counters: Counters) -> Sequence[tuple[str, str, str, float | None]]:
    """Name, type, help and value of each."""
    return [
        ("requests_total", "counter", "Requests that have ended.", service.finished_jobs),
        ("request_failures_total", "counter", "Choices that an error ended.", service.failed_choices),
        ("prompt_tokens_total", "counter", "Prompt tokens computed.", counters.prompt_tokens),
        ("cached_tokens_total", "counter", "Prompt tokens taken from kept prefixes.", counters.cached_tokens),
        ("generated_tokens_total", "counter", "Tokens generated.", counters.generated_tokens),
        ("steps_total", "counter", "Steps of the engine.", counters.steps),
        ("rows_waiting", "gauge", "Choices that wait for a row.", counters.waiting),
        ("rows_prefilling", "gauge", "Rows whose prompt is being computed.", counters.prefilling),
        ("rows_running", "gauge", "Rows that generate.", counters.running),
        ("rows_parked", "gauge", "Rows that wait in host memory for keys and values.", counters.parked),
        ("kv_blocks_used", "gauge", "Blocks of keys and values in use.", counters.blocks_used),
        ("kv_blocks", "gauge", "Blocks of keys and values there can be.", counters.blocks_total),
        ("prefixes", "gauge", "Kept prefixes.", counters.prefixes),
        ("prefix_blocks", "gauge", "Blocks that kept prefixes hold.", counters.prefix_blocks),
    ]


def _lines(name: str, kind: str, text: str, value: float | None) -> list[str]:
    if value is None:
        return []
    return [f"# HELP zaya_{name} {text}", f"# TYPE zaya_{name} {kind}", f"zaya_{name} {value}"]
