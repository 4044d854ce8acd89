"""A model's folder as a command has found it: its `config.json` is read once and handed on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.config.model_config import ModelConfig
from zaya_core.errors import CheckpointError
from zaya_core.files.model_json import read_json


@dataclass(frozen=True)
class FoundModel:
    """name: what people call it. reason: why this one, None where it was named."""

    name: str
    path: Path
    reason: str | None = None

    @cached_property
    def folder(self) -> ModelFolder:
        """What is read of it, by this room and below: each file once."""
        return ModelFolder(self.path)

    @property
    def config(self) -> ModelConfig:
        """Raises the errors of `read_config`."""
        return self.folder.config


def unchecked_settings(path: Path, failure: type[CheckpointError] = CheckpointError) -> dict[str, Any]:
    """What a `config.json` holds, unchecked; {} where that is no object. Raises as `read_json`."""
    raw = read_json(path, failure)
    return raw if isinstance(raw, dict) else {}
