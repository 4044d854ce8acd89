"""A model's folder as a command has found it: its `config.json` is read once and handed on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from zaya_core.checkpoint.fingerprint import fingerprint
from zaya_core.config.model_config import ModelConfig, read_config
from zaya_core.errors import CheckpointError
from zaya_core.files.folder_files import read_json

_CONFIG_BYTES = 4_000_000


@dataclass(frozen=True)
class FoundModel:
    """name: what people call it. reason: why this one, None where it was named. known: its config if it was read."""

    name: str
    folder: Path
    reason: str | None = None
    known: ModelConfig | None = field(default=None, repr=False)

    @cached_property
    def config(self) -> ModelConfig:
        """Read when it is first asked for. Raises the errors of `read_config`."""
        return read_config(self.folder) if self.known is None else self.known

    @cached_property
    def fingerprint(self) -> str:
        """Which weights these are, see `zaya_core.checkpoint.fingerprint`. Raises OSError."""
        return fingerprint(self.folder)


def read_settings(path: Path, failure: type[CheckpointError] = CheckpointError) -> dict[str, Any]:
    """What a `config.json` holds, unchecked; {} where that is no object. Raises as `read_json`."""
    raw = read_json(path, _CONFIG_BYTES, failure)
    return raw if isinstance(raw, dict) else {}
