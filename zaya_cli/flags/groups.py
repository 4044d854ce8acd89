"""Settings as one dataclass: a command takes it as a single parameter, and has a flag for each of its fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

_KEYWORD = inspect.Parameter.KEYWORD_ONLY


class Without:
    """Beside a group in an annotation: fields that there is no flag for here, so that they keep their defaults."""

    def __init__(self, *names: str):
        self.names = names


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Replace every parameter that is a dataclass by the flags of its fields, where it stands.

    A field's annotation is a Typer option, as in `options.py`, or another such dataclass; its default is the flag's.
    """
    signature = inspect.signature(command, eval_str=True)
    groups = {name: one.annotation for name, one in signature.parameters.items() if _is_group(one.annotation)}

    @wraps(command)
    def with_flags(**values: Any) -> None:
        made = {name: _made(annotation, values) for name, annotation in groups.items()}
        command(**values, **made)

    parameters = [
        flag
        for name, one in signature.parameters.items()
        for flag in (_flags_of(groups[name]) if name in groups else [one.replace(kind=_KEYWORD)])
    ]
    with_flags.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    # Or Typer would look at the command behind, and look up its annotations' names in this module.
    del with_flags.__wrapped__  # type: ignore[attr-defined]
    with_flags.__annotations__ = {}
    return with_flags


def given_flags(ctx: typer.Context) -> set[str]:
    """The parameters that stand on the command line, by name."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params}
    return {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}


def flag_names(group: type) -> list[str]:
    """The parameters that a group becomes, with those of groups in it, in their order."""
    return [one.name for one in _flags_of(group)]


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_group(annotation: Any) -> bool:
    return is_dataclass(_bare(annotation))


def _fields_of(annotation: Any) -> Iterator[tuple[str, Any, Any]]:
    """(name, annotation, default) of what the group has flags for."""
    group = _bare(annotation)
    hints = get_type_hints(group, include_extras=True)
    left_out = {name for mark in get_args(annotation) if isinstance(mark, Without) for name in mark.names}
    yield from ((one.name, hints[one.name], one.default) for one in fields(group) if one.name not in left_out)


def _flags_of(annotation: Any) -> Iterator[inspect.Parameter]:
    for name, hint, default in _fields_of(annotation):
        if _is_group(hint):
            yield from _flags_of(hint)
        else:
            yield inspect.Parameter(name, _KEYWORD, default=default, annotation=hint)


def _made(annotation: Any, values: dict[str, Any]) -> Any:
    """The group from the values of its flags, which are taken out of `values`."""
    given = {
        name: _made(hint, values) if _is_group(hint) else values.pop(name) for name, hint, _ in _fields_of(annotation)
    }
    return _bare(annotation)(**given)
