"""A request's body: JSON in UTF-8, read strictly, since what is read loosely can be smuggled past checks."""

from __future__ import annotations

from typing import Any

from zaya_cli.serve.guard.json_body import read_json_object
from zaya_cli.serve.protocol.errors import ApiError
from zaya_core.errors import UsageError


def parse_body(content: bytes) -> dict[str, Any]:
    """The object in a body. Raises ApiError for anything else."""
    try:
        return read_json_object(content)
    except UsageError as error:
        raise ApiError(400, str(error), code="invalid_json") from None
