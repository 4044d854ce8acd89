"""The choices of an answer: one request each, equal but for their random numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

from zaya_core.engine.request import Request


def choices_of(request: Request, n: int) -> list[Request]:
    """n of them, each with random numbers of its own under the same seed. Their prompt is computed once."""
    return [replace(request, candidate=candidate) for candidate in range(n)]


def beyond(fields: Mapping[str, Any], owner: str) -> dict[str, Any]:
    given = {"logit_bias": fields.get("logit_bias", {}), "salt": owner}
    return {k: v for k, v in given.items() if k in {f.name for f in fields_of(Request)}}
