"""Whether `config.json` says of a known model what it says where the model is published."""

from __future__ import annotations

from collections.abc import Iterator

from zaya_core.config.model_config import ModelConfig
from zaya_core.config.rope import FULL
from zaya_core.measure.checkup.finding import Finding
from zaya_core.measure.checkup.golden import Known


def check_settings(config: ModelConfig, known: Known) -> Iterator[Finding]:
    """What no shape of a tensor shows. Nothing where all is as published, or nothing is."""
    golden = known.golden
    if golden is None:
        return
    wrong = [
        f"{name} is {_setting(config, name)} in place of {value}"
        for name, value in golden.settings.items()
        if _setting(config, name) != value
    ]
    if wrong:
        text = f"config.json is not that of {golden.name}: {', '.join(wrong)}"
        yield Finding("settings", text, "problem" if known.is_named else "note")


def _setting(config: ModelConfig, name: str) -> float | bool | None:
    """One of the configuration itself, or of the rotary embedding of its full attention."""
    rope = config.rope_parameters.get(FULL)
    return getattr(config, name) if hasattr(config, name) else getattr(rope, name, None)
