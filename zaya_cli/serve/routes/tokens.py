"""Tokens and prompts without an answer: by vLLM's names and llama.cpp's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from zaya_cli.serve.protocol.answers.logprobs import token_name
from zaya_cli.serve.protocol.asks.messages import chat_messages
from zaya_cli.serve.protocol.asks.prompt import rendered, text_prompt, written
from zaya_cli.serve.protocol.asks.thinking import THINKING, thinking_of
from zaya_cli.serve.protocol.body import parse_body
from zaya_cli.serve.protocol.errors import bad_field
from zaya_cli.serve.protocol.fields import Rule, a_list, flag, read_fields, shown, text
from zaya_cli.serve.protocol.json_text import JsonResponse
from zaya_cli.serve.protocol.served import Served
from zaya_cli.serve.routes.endpoint import Endpoint
from zaya_cli.serve.service import Service
from zaya_core.whole_numbers import is_whole

Answer = Callable[[Mapping[str, Any], Served], dict[str, Any]]

_CHAT: dict[str, Rule] = {"messages": chat_messages, "add_generation_prompt": flag, **THINKING}
_TOKENIZE: dict[str, Rule] = {
    "prompt": text,
    "content": text,
    "add_special_tokens": flag,
    "add_special": flag,
    "parse_special": flag,
    "with_pieces": flag,
    "return_token_strs": flag,
    **_CHAT,
}


def worked_out(service: Service, served: Served, answer_of: Answer) -> Endpoint:
    """What only the tokenizer is needed for, done by a worker."""

    async def answer(request: Request) -> Response:
        content = await request.body()
        return JsonResponse(await service.work(lambda: answer_of(parse_body(content), served)))

    return answer


def tokenize(body: Mapping[str, Any], served: Served) -> dict[str, Any]:
    """`prompt` and `messages` are vLLM's, which puts a BOS in front; `content` is llama.cpp's, which does not."""
    fields = read_fields(body, _TOKENIZE)
    ids = _ids(fields, served)
    found: dict[str, Any] = {"count": len(ids), "max_model_len": served.context, "tokens": ids}
    if fields.get("with_pieces"):
        found["tokens"] = [{"id": id_, "piece": _piece(served.tokenizer.bytes_of(id_))} for id_ in ids]
    if fields.get("return_token_strs"):
        found["token_strs"] = [token_name(served.tokenizer, id_) for id_ in ids]
    return found


def _piece(content: bytes) -> str | list[int]:
    """A token's text, part of a character as its bytes."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return list(content)


def _ids(fields: Mapping[str, Any], served: Served) -> list[int]:
    if "messages" in fields:
        has_turn = fields.get("add_generation_prompt", True)
        return rendered(served.tokenizer, fields["messages"], thinking_of(fields), add_generation_prompt=has_turn)
    if "prompt" not in fields and "content" not in fields:
        raise bad_field("prompt", "is missing.")
    is_vllm = "prompt" in fields
    add_bos = fields.get("add_special_tokens", fields.get("add_special", is_vllm))
    given = fields["prompt"] if is_vllm else fields["content"]
    return text_prompt(served.tokenizer, given, add_bos, fields.get("parse_special", True))


def detokenize(body: Mapping[str, Any], served: Served) -> dict[str, Any]:
    """The text of ids, control tokens by their names: what tokenises to the same ids again."""
    ids = read_fields(body, {"tokens": a_list}).get("tokens")
    if ids is None:
        raise bad_field("tokens", "is missing.")
    for id_ in ids:
        if not is_whole(id_) or not 0 <= id_ < served.vocab_size:
            raise bad_field("tokens", f"has {shown(id_)}; ids are from 0 to {served.vocab_size - 1:,}.")
    found = served.tokenizer.decode(ids, skip_special_tokens=False)
    return {"prompt": found, "content": found}


def apply_template(body: Mapping[str, Any], served: Served) -> dict[str, Any]:
    """A conversation as the model would see it."""
    fields = read_fields(body, _CHAT)
    if "messages" not in fields:
        raise bad_field("messages", "is missing.")
    thinking, has_turn = thinking_of(fields), fields.get("add_generation_prompt", True)
    arguments = served.tokenizer, fields["messages"], thinking
    return {
        "prompt": written(*arguments, add_generation_prompt=has_turn),
        "tokens": rendered(*arguments, add_generation_prompt=has_turn),
    }


def tokenizer_info(served: Served) -> dict[str, Any]:
    """What evaluation harnesses ask of a remote tokenizer."""
    tokenizer, special = served.tokenizer, special_tokens(served)
    return {
        "tokenizer_class": "zaya",
        "vocab_size": served.vocab_size,
        "model_max_length": served.context,
        "chat_template": _self_contained(tokenizer.chat_template.source, special),
        **special,
    }


def _self_contained(template: str, special: Mapping[str, str | None]) -> str:
    """A template that writes the same where it is given nothing but messages, and its last newline counts."""
    defaults = {
        "tools": "none",
        "documents": "none",
        **{name: json.dumps(value or "") for name, value in special.items()},
    }
    return "".join(
        f"{{%- set {name} = {name} | default({value}) %}}" for name, value in defaults.items()
    ) + template.removesuffix("\n")


def special_tokens(served: Served) -> dict[str, str | None]:
    """By transformers' names; without a token for padding the end of a turn is one."""
    tokenizer = served.tokenizer
    end = tokenizer.token_text(min(tokenizer.stop_ids)) if tokenizer.stop_ids else None
    bos = None if tokenizer.bos_id is None else tokenizer.token_text(tokenizer.bos_id)
    return {"bos_token": bos, "eos_token": end, "pad_token": end}
