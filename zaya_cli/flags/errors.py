"""What Typer refuses on the command line, in this program's words: the flag, the value, and what is needed."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from typer.exceptions import TyperException

from zaya_cli.flags.typed import NEEDED

_EXAMPLES = {float: 0.7, int: 8}
_JSON = ("json", "jsonl")


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, also one that Typer does not understand."""
    formats = [after for flag, after in pairwise(arguments) if flag == "--format"]
    formats += [one.partition("=")[2] for one in arguments if one.startswith("--format=")]
    return any(format in _JSON for format in formats)


def usage_sentence(error: TyperException) -> str:
    """One sentence, and where to read more; empty where Typer has shown the help already."""
    message, context = _refusal(error) or error.format_message().rstrip("."), getattr(error, "ctx", None)
    return f"{message}. See `{context.command_path} --help`." if message and context else message


def _refusal(error: TyperException) -> str | None:
    """Of a value that a flag cannot take; None for any other error."""
    parameter, cause = getattr(error, "param", None), error.__cause__
    problems: list[Any] = getattr(cause, "errors", list)()  # pydantic's, which Typer converts values with
    if parameter is None or not problems:
        return None
    value, kind = problems[0]["input"], parameter.type_descriptor
    return f"{_name(error, parameter)} {value}: {_needed(kind, str(value))}"


def _name(error: TyperException, parameter: Any) -> str:
    context = getattr(error, "ctx", None)
    source = context.get_parameter_source(parameter.name) if context else None
    if source is not None and source.name == "ENVIRONMENT":
        return f"{parameter.envvar}"
    return parameter.opts[0] if parameter.param_type_name == "option" else str(parameter.name).upper()


def _needed(kind: Any, value: str) -> str:
    if kind.choices:
        close = difflib.get_close_matches(value.lower(), kind.choices, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        return f"it must be one of {', '.join(map(str, kind.choices))}{hint}"
    if kind.is_ranged and value.lstrip("+-").isdigit():
        return f"it must be from {kind.parameter_info.min} to {kind.parameter_info.max}"
    example = f", such as {_EXAMPLES[kind.annotation]}" if kind.annotation in _EXAMPLES else ""
    return f"{NEEDED[kind.annotation]} is needed{example}" if kind.annotation in NEEDED else "it cannot be used"
