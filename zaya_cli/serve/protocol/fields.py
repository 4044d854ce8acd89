"""Fields of a JSON body, checked by tables: a rule for each name. null is the same as absent, everywhere."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zaya_cli.serve.protocol.errors import bad_field
from zaya_core.whole_numbers import is_number, is_whole, without_fraction

Rule = Callable[[str, Any], Any]
"""From a field's name, for errors, and its value in JSON to the value that is used. Raises ApiError."""


def read_fields(body: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, Any]:
    """The fields that are given and known, checked. Raises ApiError for the first that cannot be used."""
    return {name: rule(name, body[name]) for name, rule in rules.items() if body.get(name) is not None}


def whole(least: int, most: int | None = None) -> Rule:
    """A whole number; 50.0 is one, since some languages have no others."""

    def read(name: str, value: Any) -> int:
        number = without_fraction(value)
        if not is_whole(number) or number < least or (most is not None and number > most):
            limits = f"{least:,} or more" if most is None else f"from {least:,} to {most:,}"
            raise bad_field(name, f"is {shown(value)}; it must be a whole number, {limits}.")
        return number

    return read


def number(least: float, most: float) -> Rule:
    """A finite number."""

    def read(name: str, value: Any) -> float:
        if not is_number(value) or not least <= value <= most or not math.isfinite(value):
            raise bad_field(name, f"is {shown(value)}; it must be a number from {least:g} to {most:g}.")
        return float(value)

    return read


def flag(name: str, value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise bad_field(name, f"is {shown(value)}; it must be true or false.")
    return value


def text(name: str, value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise bad_field(name, f"is {shown(value)}; it must be a text.")
    return value


def one_of(names: Sequence[str]) -> Rule:
    """One of a few texts."""

    def read(name: str, value: Any) -> str:
        if value not in names:
            raise bad_field(name, f"is {shown(value)}; it must be one of {', '.join(names)}.")
        return str(value)

    return read


def table(rules: Mapping[str, Rule]) -> Rule:
    """An object, of which the fields in `rules` are read and checked."""

    def read(name: str, value: Any) -> dict[str, Any]:
        inner = {key: _within(name, rule) for key, rule in rules.items()}
        return read_fields(an_object(name, value), inner)

    return read


def _within(outer: str, rule: Rule) -> Rule:
    return lambda name, value: rule(f"{outer}.{name}", value)


def an_object(name: str, value: Any) -> dict[str, Any]:
    """Any object."""
    if not isinstance(value, dict):
        raise bad_field(name, f"is {shown(value)}; it must be an object.")
    return value


def a_list(name: str, value: Any) -> list[Any]:
    """Any list."""
    if not isinstance(value, list):
        raise bad_field(name, f"is {shown(value)}; it must be a list.")
    return value


def shown(value: Any) -> str:
    """A value in an error, at most some 30 characters of it."""
    return "null" if value is None else reprlib.repr(value)
