"""Sampling defaults that a model folder brings in `generation_config.json`.

They are advice for programs of many kinds, so that a value with a meaning is understood however it is written, and one
without is left out and named: it does not make the folder unusable.
"""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.errors import UsageError
from zaya_core.files.model_json import GENERATION_CONFIG
from zaya_core.sampling.params import SamplingParams
from zaya_core.whole_numbers import is_number, is_whole, without_fraction

_KEYS: dict[str, type] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
}


@dataclass(frozen=True)
class SamplingDefaults:
    """What a folder sets, over the built-in defaults, and a sentence on each value of it that cannot be used."""

    params: SamplingParams
    notes: tuple[str, ...] = ()


def sampling_defaults(folder: Path | ModelFolder) -> SamplingParams:
    """The built-in defaults (the model card's), changed by what the folder sets. Raises as `read_sampling_defaults`."""
    return read_sampling_defaults(folder).params


def read_sampling_defaults(folder: Path | ModelFolder) -> SamplingDefaults:
    """The same with its notes.

    `do_sample: false` means greedy; null is no value; a `top_k` of -1 is vLLM's way of writing "off". Raises
    CheckpointError for a file that is no JSON object.
    """
    whole = ModelFolder.of(folder)
    path, stored = whole.path / GENERATION_CONFIG, whole.json_object(GENERATION_CONFIG)
    params, notes = SamplingParams(), []
    for key, kind in _KEYS.items():
        value = stored.get(key)
        if value is None:
            continue
        try:
            params = replace(params, **{key: _number(key, kind, value)})  # type: ignore[arg-type]
        except UsageError as error:
            notes.append(f"{path}: {error} It is left out, and the default is {getattr(params, key)}.")
    if stored.get("do_sample") is False:
        params = replace(params, temperature=0.0)
    return SamplingDefaults(params, tuple(notes))


def _number(key: str, kind: type, value: Any) -> float | int:
    """Of the type that the parameter has. Raises UsageError."""
    number = without_fraction(value) if kind is int else value
    if not (is_whole(number) if kind is int else is_number(number)):
        wanted = "a whole number" if kind is int else "a number"
        raise UsageError(f"{key} is {reprlib.repr(value)}; it must be {wanted}.")
    if not abs(number) <= math.ldexp(1, 62):  # neither NaN nor more digits than a float has
        raise UsageError(f"{key} is {reprlib.repr(value)}; it must be finite.")
    return 0 if key == "top_k" and number == -1 else kind(number)
