"""JSON on the wire."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from zaya_cli.serve.protocol.errors import ApiError


def json_bytes(value: Any) -> bytes:
    """In UTF-8, on one line, without blanks."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


class JsonResponse(Response):
    """A whole answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """See starlette."""
        return json_bytes(content)


def error_response(error: ApiError) -> JsonResponse:
    """An error in place of an answer."""
    return JsonResponse(error.body, error.status, error.headers)
