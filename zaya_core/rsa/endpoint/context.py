"""A server's limit on prompt and answer together, in the words of its error (vLLM, SGLang, llama.cpp, TGI, OpenAI)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zaya_core.rsa.endpoint.faults import StatusError
from zaya_core.whole_numbers import is_whole

_STATUSES = (400, 413, 422, 500)
_FIELDS = ("n_ctx", "max_model_len", "context_length", "max_context_length")
_NUMBER = r"`?(\d[\d,_]*)"
_MENTION = re.compile(
    r"context[ _-]?(?:length|size|window)|n_ctx|exceed_context|maximum context|model[ _]len|max_total_tokens|"
    r"max_(?:new_|completion_|output_)?tokens|token limit|too many tokens|maximum (?:number of )?tokens",
    re.IGNORECASE,
)
_LIMITS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:context[ _-]?(?:length|size|window)|model[ _]len(?:gth)?|n_ctx|max_total_tokens|maximum context)"
        rf"[^\d.;,]{{0,40}}?{_NUMBER}",
        r"(?:at most|maximum(?: value)?(?: is| of|:)|limit(?: is| of|:)|<=|less than or equal to)"
        rf"[^\d.;,]{{0,20}}{_NUMBER}",
        rf"{_NUMBER}[ -]tokens?[ -](?:context|limit|maximum|window)",
    )
)
_REQUESTED = re.compile(rf"requested (?:a total of |about )?{_NUMBER}", re.IGNORECASE)
_LEAST = 16  # tokens; a smaller number is something else


@dataclass(frozen=True)
class ContextLimit:
    """What the error says, tokens: the limit, and by how many the request exceeds it; None where it says neither."""

    tokens: int | None
    excess: int | None


def context_limit(error: StatusError) -> ContextLimit | None:
    """The limit that an error names, None for an error about something else."""
    text = _text(error.body)
    if error.status not in _STATUSES or not (_MENTION.search(text) or (re.search("token", text) and _first(text))):
        return None
    limit = _field(error.body) or _first(text)
    if limit is None and error.status == 500:
        return None
    requested = _number(_REQUESTED.search(text))
    excess = requested - limit if limit is not None and requested is not None and requested > limit else None
    return ContextLimit(limit, excess)


def _text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, default=str)


def _field(body: Any) -> int | None:
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    for place in (inner, body):
        values = [place.get(name) for name in _FIELDS] if isinstance(place, Mapping) else []
        for value in values:
            if is_whole(value) and _LEAST <= value < 1 << 40:
                return value
    return None


def _first(text: str) -> int | None:
    return next((number for limit in _LIMITS if (number := _number(limit.search(text))) is not None), None)


def _number(match: re.Match[str] | None) -> int | None:
    digits = re.sub(r"\D", "", match[1]) if match else ""
    return int(digits) if 0 < len(digits) < 12 and int(digits) >= _LEAST else None
