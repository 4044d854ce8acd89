"""Which of a server's models is asked, and how long its context is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from zaya_core.errors import UsageError
from zaya_core.whole_numbers import is_number

_OURS = re.compile("zaya", re.IGNORECASE)
_OTHER_KIND = re.compile(r"embed|rerank|reward|whisper|\btts\b|\bclip\b|\bbge\b|\be5\b|\bgte\b|colbert", re.IGNORECASE)
_SHOWN = 10
# vLLM and SGLang; gateways; LM Studio; llama.cpp, also within `meta`, where n_ctx_train is what the model could do
_CONTEXT_FIELDS = (
    *("max_model_len", "context_length", "context_window", "max_context_length", "loaded_context_length"),
    *("max_context_len", "n_ctx", "n_ctx_train"),
)
_LEAST_CONTEXT = 16


def entries_of(listing: Any) -> dict[str, Mapping[str, Any]]:
    """The entries of `/v1/models` by name. Raises ValueError for what is no such list."""
    data = listing.get("data", listing.get("models")) if isinstance(listing, Mapping) else listing
    if not isinstance(data, list):
        raise ValueError("no list of models")
    found = (one for one in data if isinstance(one, Mapping))
    return {one["id"]: one for one in found if isinstance(one.get("id"), str) and one["id"]}


def choose_model(names: list[str], url: str) -> str:
    """The only one, or the only one named zaya. Raises UsageError with the names where neither is plain."""
    if not names:
        raise UsageError(f"{url} lists no models: name one with --endpoint-model.")
    writing = [name for name in names if not _OTHER_KIND.search(name)]
    ours = [name for name in writing if _OURS.search(name)]
    if len(ours) == 1:
        return ours[0]
    if len(names) == 1 and writing:
        return writing[0]
    what = "several models are named zaya" if ours else "none is named zaya" if writing else "none of them writes text"
    raise UsageError(f"{url} lists {listed(names)}, and {what}: name one with --endpoint-model.")


def listed(names: list[str]) -> str:
    """The first names, for messages."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def context_of(entry: Mapping[str, Any]) -> int | None:
    """The context in tokens that the server announces for a model, None where it says nothing."""
    return min(_contexts(entry), default=None)


def _contexts(entry: Mapping[str, Any]) -> Iterator[int]:
    nested = [value for name in ("meta", "model_info", "limits") if isinstance(value := entry.get(name), Mapping)]
    for place in (entry, *nested):
        for name in _CONTEXT_FIELDS:
            value = place.get(name)
            if isinstance(value, str) and value.isdecimal() and len(value) < 12:
                value = int(value)
            if is_number(value) and value >= _LEAST_CONTEXT:
                yield int(min(value, 1 << 40))
