"""A body as JSON, read strictly: what other programs would read in another way, or not at all, is refused."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from zaya_core.errors import UsageError
from zaya_core.text.surrogates import without_surrogates

_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_MOST_DIGITS = 4300  # of an integer: Python's own limit, since reading them takes the square of their number
_DEEPEST = 100  # lists and objects in each other
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # how one half of a character is written that UTF-16 has two for


def read_json_object(body: bytes) -> dict[str, Any]:
    """The object that a body holds, with halves of characters replaced. Raises UsageError, for status 400."""
    text = _decoded(body)
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_number)
    except json.JSONDecodeError as error:
        raise UsageError(f"The body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        _refuse_depth()
    _expect_depth(value)
    if not isinstance(value, dict):
        raise UsageError("The body must be a JSON object, in braces.")
    return _without_halves(value) if _HALF.search(text) else value


def _decoded(body: bytes) -> str:
    if body.startswith(_BYTE_ORDER_MARKS):
        raise UsageError("The body begins with a byte order mark: send UTF-8 without one.")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"The body is not UTF-8 (byte {error.start:,}): send it in that encoding.") from None
    if not text.strip():
        raise UsageError("The body is empty: send a JSON object.")
    return text


def _refuse_constant(name: str) -> NoReturn:
    raise UsageError(f"The body has {name}, which is no JSON: send a number or null.")


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise UsageError(f"The body has an integer of {len(text):,} digits; the most is {_MOST_DIGITS:,}.")
    return int(text)


def _number(text: str) -> float:
    if math.isinf(value := float(text)):
        raise UsageError("The body has a number that is too large.")
    return value


def _expect_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST + 1):
        if not (level := [child for one in level for child in _children(one)]):
            return
    _refuse_depth()


def _refuse_depth() -> NoReturn:
    raise UsageError(f"The body nests lists and objects too deeply; the most is {_DEEPEST} in each other.")


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _without_halves(value: Any) -> Any:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list):
        return [_without_halves(one) for one in value]
    if isinstance(value, dict):
        return {without_surrogates(key): _without_halves(one) for key, one in value.items()}
    return value
