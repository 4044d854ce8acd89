"""`zaya config`: the settings in effect and where each comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zaya_cli.flags.options import InfoKind
from zaya_cli.flags.settings import Setting, read_config_file
from zaya_cli.models.choice import find_model
from zaya_cli.terminal.output import stdout_console, write_json
from zaya_cli.terminal.visible import one_line
from zaya_cli.user_files import config_file
from zaya_core.errors import ZayaError
from zaya_core.redaction import redacted

_SAMPLING = {  # key: field of SamplingParams
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repetition_penalty",
}


@dataclass(frozen=True)
class Origin:
    """A value in effect (None: decided when a model runs) and who set it."""

    value: Any
    origin: str


def show_config(settings: Mapping[str, Setting], format: InfoKind) -> None:
    """Print every setting. Raises UsageError for a damaged file or variable."""
    origins = origins_of(settings)
    if format == "json":
        write_json({key: {"value": _public(origin.value), "origin": origin.origin} for key, origin in origins.items()})
        return
    console = stdout_console()
    for key, origin in origins.items():
        value = "-" if origin.value is None else str(_public(origin.value))
        console.print(one_line(f"{key:<18}{value:<28}{origin.origin}"))


def _public(value: Any) -> Any:
    return redacted(value) if isinstance(value, str) else value


def origins_of(settings: Mapping[str, Setting]) -> dict[str, Origin]:
    """Variable over file over generation_config.json over built-in, for each setting."""
    path = config_file()
    from_file = read_config_file(path, settings)
    origins = {}
    for key, setting in settings.items():
        text = os.environ.get(setting.variable)
        if text:
            origins[key] = Origin(setting.parse(text), setting.variable)
        elif key in from_file:
            origins[key] = Origin(from_file[key], str(path))
        else:
            origins[key] = Origin(setting.default, "built-in")
    named = origins["model"].value if "model" in origins else None
    for key, origin in _of_model(named).items():
        if origins[key].origin == "built-in":
            origins[key] = origin
    return origins


def _of_model(name: str | None) -> dict[str, Origin]:
    """Sampling settings as the model's generation_config.json leaves them; {} without a usable model."""
    try:
        folder = find_model(name, device="cpu").folder
        from zaya_core.engine.generation_config import sampling_defaults
        from zaya_core.sampling.params import SamplingParams

        here, built_in = sampling_defaults(folder), SamplingParams()
    except ZayaError:
        return {}
    source = folder.path / "generation_config.json"
    return {
        key: Origin(value, str(source) if value != getattr(built_in, field) else "built-in")
        for key, field in _SAMPLING.items()
        if (value := getattr(here, field)) is not None
    }
