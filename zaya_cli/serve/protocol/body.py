"""A request's body: JSON in UTF-8, read strictly, since what is read loosely can be smuggled past checks."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from starlette.requests import Request

from zaya_cli.serve.protocol.errors import ApiError
from zaya_core.text.surrogates import without_surrogates


async def read_body(request: Request) -> dict[str, Any]:
    """The object in a body. Raises ApiError for anything else; ClientDisconnect."""
    return parse_body(await request.body())


def parse_body(content: bytes) -> dict[str, Any]:
    """The same of bytes. Halves of surrogate pairs, which no encoder takes, are U+FFFD. Raises ApiError."""
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_refuse)
        value = _clean(value) if b"\\u" in content else value
    except UnicodeDecodeError:
        raise _bad("it is not UTF-8") from None
    except RecursionError:
        raise _bad("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _bad(f"{error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError as error:  # of a constant, or a number with too many digits
        raise _bad(str(error).partition(";")[0]) from None
    if not isinstance(value, dict):
        raise ApiError(400, f"The body holds {_KINDS.get(type(value), 'a number')}; it must be a JSON object.")
    return value


_KINDS = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}


def _bad(reason: str) -> ApiError:
    return ApiError(400, f"The body is not valid JSON: {reason}.", code="invalid_json")


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, dict):
        return {without_surrogates(key): _clean(one) for key, one in value.items()}
    return value
