"""Fields that are refused, since an answer without what they ask for would be a wrong one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zaya_cli.serve.notes import tell
from zaya_cli.serve.protocol.errors import ApiError, bad_field
from zaya_cli.serve.protocol.fields import a_list, one_of, table

_CONSTRAINTS = ("grammar", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs")
_IGNORED = {
    *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"),
    *("verbosity", "prediction", "parallel_tool_calls", "cache_prompt", "return_token_ids"),
}
_reported: set[str] = set()  # unknown fields that the log has named
_MOST_REPORTED = 100
_SHOWN = 40  # characters of a name


def refuse_unsupported(body: Mapping[str, Any]) -> None:
    """Raises ApiError: 400 for what this protocol has another way of saying, 501 for what is not there."""
    if body.get("functions") is not None or body.get("function_call") is not None:
        name = "functions" if body.get("functions") is not None else "function_call"
        raise bad_field(name, "is deprecated and not supported: use tools and tool_choice.")
    if body.get("suffix"):
        raise bad_field("suffix", "is not supported: this model writes on from a prompt only.")
    _refuse_audio(body)
    _refuse_tools(body)
    given = body.get("response_format")
    if given is not None and table({"type": one_of(("text", "json_object", "json_schema"))})(
        "response_format", given
    ).get("type") not in (None, "text"):
        raise _not_there("response_format")
    for name in (*_CONSTRAINTS, "rsa"):
        if body.get(name):
            raise _not_there(name)


def _refuse_audio(body: Mapping[str, Any]) -> None:
    modalities = body.get("modalities")
    if modalities is not None and a_list("modalities", modalities) != ["text"]:
        raise bad_field("modalities", "must be ['text']: this model reads and writes text only.")
    if body.get("audio") is not None:
        raise bad_field("audio", "is not supported: this model reads and writes text only.")


def _refuse_tools(body: Mapping[str, Any]) -> None:
    """No tools are as good as none named; tools that may not be called are not shown to the model."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    has_tools = tools is not None and bool(a_list("tools", tools))
    if choice is not None and choice not in ("none", "auto", "required") and not isinstance(choice, dict):
        raise bad_field("tool_choice", "must be none, auto, required or an object that names a tool.")
    if not has_tools and choice not in (None, "none", "auto"):
        raise bad_field("tool_choice", "asks for a call, and there are no tools.")
    if has_tools and choice != "none":
        raise _not_there("tools")


def _not_there(name: str) -> ApiError:
    return ApiError(501, f"{name} is not supported by this server.", "not_implemented", param=name, code="unsupported")


def report_unknown(body: Mapping[str, Any], known: Iterable[str]) -> None:
    """Name each unknown field in the log, once: clients send new ones every month, and they change nothing."""
    for name in body.keys() - {*known, *_IGNORED} - _reported:
        if len(_reported) >= _MOST_REPORTED:
            return
        _reported.add(name)
        tell(f"zaya: the field {name[:_SHOWN]!r} of a request is not known and is ignored.")
