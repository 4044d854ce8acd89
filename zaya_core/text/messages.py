"""Chat messages as templates take them: checked, and in plain JSON values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from zaya_core.errors import UsageError

ROLES = ("system", "user", "assistant", "tool")
_SAME_ROLE = {"developer": "system"}  # OpenAI's newer name


class _Role(TypedDict):
    role: Literal["system", "developer", "user", "assistant", "tool"]


class Message(_Role, total=False):
    """One turn. `content` may also be OpenAI's list of text parts, which is joined; `reasoning`: `reasoning_content` by
    another name."""

    content: str | list[dict[str, str]] | None
    reasoning_content: str | None
    reasoning: str | None
    tool_calls: list[dict[str, Any]] | None
    tool_call_id: str
    name: str


def read_messages(messages: Sequence[Mapping[str, object]]) -> list[dict[str, Any]]:
    """Check roles and types, join text parts, parse tool arguments given as JSON text.

    Raises UsageError that names the message by its number, counted from 1.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not messages:
        raise UsageError("A conversation is a list of at least one message with a role and a content.")
    return [_read_message(message, f"message {number}") for number, message in enumerate(messages, start=1)]


def _read_message(message: Mapping[str, object], where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise UsageError(f"{where} is {type(message).__name__}, not an object with a role and a content.")
    plain: dict[str, Any] = plain_value(message, where)
    given = plain.get("role")
    role = plain["role"] = _SAME_ROLE.get(given, given) if isinstance(given, str) else given
    if role not in ROLES:
        raise UsageError(f"{where} has the role {role!r}; known are {', '.join((*ROLES, *_SAME_ROLE))}.")
    plain["content"] = _read_content(plain.get("content"), f"{where} ({role})")
    _read_reasoning(plain, f"{where} ({role})")
    if plain.get("tool_calls") is not None:
        plain["tool_calls"] = _read_tool_calls(plain["tool_calls"], where)
    return plain


def _read_reasoning(message: dict[str, Any], where: str) -> None:
    """The thinking of an earlier turn has two names among clients; templates know the first."""
    for name in ("reasoning_content", "reasoning"):
        if not isinstance(message.get(name), (str, type(None))):
            raise UsageError(f"{where}: {name} is not text.")
    other = message.pop("reasoning", None)
    if other is not None and message.get("reasoning_content") is None:
        message["reasoning_content"] = other


def _read_content(content: object, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise UsageError(f"{where}: content is not text; this model reads text only.")
    return "".join(str(text) for text in texts)


def _read_tool_calls(calls: object, where: str) -> list[dict[str, Any]]:
    """OpenAI clients send arguments as JSON text, templates iterate over an object: parse where it is one."""
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise UsageError(f"{where}: tool_calls is not a list of objects.")
    for call in calls:
        function = call.get("function", call)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UsageError(f"{where}: a tool call has no function name.")
        if isinstance(function.get("arguments"), str):
            try:
                parsed = json.loads(function["arguments"])
            except (ValueError, RecursionError):
                continue
            if isinstance(parsed, dict):
                function["arguments"] = parsed
    return calls


def plain_value(value: object, where: str) -> Any:
    """A copy in exact JSON types: objects with methods of their own stay outside the sandbox."""
    if value is None or isinstance(value, bool):
        return value
    for exact in (str, int, float):
        if isinstance(value, exact):
            return exact(value)
    if isinstance(value, Mapping):
        return {str(key): plain_value(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item, where) for item in value]
    raise UsageError(f"{where} holds a {type(value).__name__}; only JSON values can go into a prompt.")
