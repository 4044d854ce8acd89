"""Chat messages of OpenAI's protocol and its relatives, as the template takes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zaya_cli.serve.protocol.errors import bad_field
from zaya_cli.serve.protocol.fields import a_list, an_object, shown
from zaya_core.text.messages import ROLES

_ROLES = (*ROLES, "developer")  # OpenAI's newer name of the first
_REASONING = ("reasoning_content", "reasoning")
_TEXT_PARTS = ("text", "input_text", "output_text", "refusal")


def chat_messages(name: str, value: Any) -> list[dict[str, Any]]:
    """The turns of a conversation, checked. Raises ApiError that names the message by its place, counted from 0."""
    messages = a_list(name, value)
    if not messages:
        raise bad_field(name, "is empty; it must have at least one message.")
    return [_message(f"{name}[{place}]", an_object(f"{name}[{place}]", one)) for place, one in enumerate(messages)]


def _message(where: str, message: Mapping[str, Any]) -> dict[str, Any]:
    role = message.get("role")
    if role not in _ROLES:
        raise bad_field(f"{where}.role", f"is {shown(role)}; it must be one of {', '.join(_ROLES)}.")
    plain: dict[str, Any] = {"role": role}
    plain["content"] = _content(f"{where}.content", message.get("content"), may_lack=role == "assistant")
    if role == "assistant":
        plain |= {key: message[key] for key in _REASONING if isinstance(message.get(key), str)}
        if message.get("tool_calls"):
            plain["tool_calls"] = _tool_calls(f"{where}.tool_calls", message["tool_calls"])
    for key in ("name", "tool_call_id"):
        if isinstance(message.get(key), str):
            plain[key] = message[key]
    return plain


def _content(where: str, content: Any, may_lack: bool) -> str:
    if isinstance(content, str):
        return content
    if content is None and may_lack:
        return ""
    if not isinstance(content, list):
        raise bad_field(where, f"is {shown(content)}; it must be a text or a list of text parts.")
    return "".join(_part(f"{where}[{place}]", part) for place, part in enumerate(content))


def _part(where: str, part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = an_object(where, part).get("type")
    if kind not in _TEXT_PARTS:
        raise bad_field(f"{where}.type", f"is {shown(kind)}; this model reads text only.")
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        raise bad_field(f"{where}.text", f"is {shown(text)}; it must be a text.")
    return text


def _tool_calls(where: str, value: Any) -> list[dict[str, Any]]:
    """Calls that the model made before."""
    calls = a_list(where, value)
    for place, call in enumerate(calls):
        function = an_object(f"{where}[{place}].function", an_object(f"{where}[{place}]", call).get("function", call))
        if not isinstance(function.get("name"), str):
            raise bad_field(f"{where}[{place}].function.name", f"is {shown(function.get('name'))}; it must be a text.")
        function["arguments"] = _arguments(f"{where}[{place}].function.arguments", function.get("arguments"))
    return calls


def _arguments(where: str, value: Any) -> dict[str, Any]:
    """JSON text, as the protocol has it, or the object itself. What is none would be left out by the template."""
    if value is None or value == "":
        return {}
    try:
        value = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise bad_field(where, "is not valid JSON.") from None
    return an_object(where, value)
