"""Sampling defaults that a model folder brings in `generation_config.json`."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from zaya_core.errors import CheckpointError, UsageError
from zaya_core.sampling import SamplingParams
from zaya_core.tokenizer import read_json_object

_KEYS: dict[str, type] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
}


def sampling_defaults(folder: Path) -> SamplingParams:
    """The built-in defaults (the model card's), changed by what the folder sets.

    `do_sample: false` means greedy; a `top_k` below 0 is the Hub's way of writing "off". Raises CheckpointError.
    """
    path = folder / "generation_config.json"
    stored = read_json_object(path)
    changes: dict[str, Any] = {}
    for key, kind in _KEYS.items():
        value = stored.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise CheckpointError(f"{path}: {key} is {value!r}; a finite number is needed.")
        changes[key] = kind(value)
    if changes.get("top_k", 0) < 0:
        changes["top_k"] = 0
    if stored.get("do_sample") is False:
        changes["temperature"] = 0.0
    try:
        return replace(SamplingParams(), **changes)
    except UsageError as error:
        raise CheckpointError(f"{path}: {error}") from None
