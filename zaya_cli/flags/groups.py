"""Flags that belong together as one dataclass: a command takes the group as a single parameter."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from typing import Any, get_type_hints


def with_flags(name: str, group: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the parameter `name` of a command by one flag for each field of the dataclass `group`.

    A field's annotation is a Typer option, as in `options.py`, and its default the flag's.
    """
    hints = get_type_hints(group, include_extras=True)
    flags = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_group(**values: Any) -> None:
            grouped = group(**{flag.name: values.pop(flag.name) for flag in flags})
            command(**values, **{name: grouped})

        signature = inspect.signature(command, eval_str=True)
        others = [parameter for parameter in signature.parameters.values() if parameter.name != name]
        keyword_only = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in others]
        with_group.__signature__ = signature.replace(parameters=[*keyword_only, *flags])  # type: ignore[attr-defined]
        # Or Typer would look at the command behind, and look up its annotations' names in this module.
        del with_group.__wrapped__  # type: ignore[attr-defined]
        with_group.__annotations__ = {}
        return with_group

    return decorate
