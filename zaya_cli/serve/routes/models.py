"""`/v1/models`, `/props`: what is served."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from zaya_cli.answer.answer_json import placement_of, quant_of
from zaya_cli.machine.versions import installed_version
from zaya_cli.serve.protocol.errors import ApiError
from zaya_cli.serve.protocol.json_text import JsonResponse
from zaya_cli.serve.protocol.served import Served
from zaya_cli.serve.routes.endpoint import Endpoint
from zaya_cli.serve.routes.tokens import special_tokens
from zaya_cli.serve.service import Service


def models(service: Service, served: Served) -> Endpoint:
    """The list, by OpenAI's name and by Ollama's and llama.cpp's."""

    async def answer(_: Request) -> Response:
        entry = _entry(service, served)
        also = {"name": served.name, "model": served.name, "capabilities": ["completion"]}
        return JsonResponse({"object": "list", "data": [entry], "models": [also]})

    return answer


def model(service: Service, served: Served) -> Endpoint:
    """One, by its own name."""

    async def answer(request: Request) -> Response:
        name = request.path_params["name"]
        if name != served.name:
            raise ApiError(404, f"The model {name[:80]!r} is not served here.", param="model", code="model_not_found")
        return JsonResponse(_entry(service, served))

    return answer


def _entry(service: Service, served: Served) -> dict[str, Any]:
    config = service.runtime.engine.model.config
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "zaya",
        "max_model_len": served.context,
        "meta": {"n_vocab": config.vocab_size, "n_ctx": served.context, "n_ctx_train": config.max_position_embeddings},
    }


def props(service: Service, served: Served) -> Endpoint:
    """Settings by llama.cpp's names, and where the model computes."""

    async def answer(_: Request) -> Response:
        return JsonResponse(
            {
                "default_generation_settings": {"n_ctx": served.context, "params": _params(served)},
                "total_slots": served.rows,
                "model_alias": served.name,
                "modalities": {"vision": False, "audio": False},
                "chat_template": served.tokenizer.chat_template.source,
                **special_tokens(served),
                "build_info": f"zaya {installed_version()}",
                "quant": quant_of(service.runtime),
                "computed_by": service.runtime.computed_by,
                **placement_of(service.runtime),
            }
        )

    return answer


def _params(served: Served) -> dict[str, Any]:
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
    return {name: getattr(served.defaults, name) for name in names}
