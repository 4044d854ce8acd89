"""A model folder as one thing to hand on: what is read of it is read once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from zaya_core.checkpoint.fingerprint import fingerprint
from zaya_core.checkpoint.weight_files import SINGLE, expect_weight_files, read_index
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.parse import parse_config, read_settings
from zaya_core.files.model_json import CONFIG, read_json_object


class ModelFolder:
    """State: the path, and what has been asked for so far. Changes of the files are not seen after that."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._objects: dict[str, Mapping[str, Any]] = {}

    @classmethod
    def of(cls, folder: str | Path | ModelFolder) -> ModelFolder:
        """The folder itself, or a new one for a path."""
        return folder if isinstance(folder, ModelFolder) else cls(folder)

    def __str__(self) -> str:
        return str(self.path)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """`config.json` as it is. Raises as `read_settings`."""
        return read_settings(self.path)

    @cached_property
    def config(self) -> ModelConfig:
        """`config.json`, understood. Raises as `read_config`."""
        return parse_config(self.settings)

    def json_object(self, name: str) -> Mapping[str, Any]:
        """A JSON file by name; empty where there is none. Raises as `read_json_object`."""
        if name not in self._objects:
            has_settings = name == CONFIG and os.path.lexists(self.path / CONFIG)
            self._objects[name] = self.settings if has_settings else read_json_object(self.path / name)
        return self._objects[name]

    @cached_property
    def weight_map(self) -> dict[str, str] | None:
        """From tensors to weight files, as the index has it; None where all are in one. Raises as `read_index`."""
        return read_index(self.path)

    @property
    def weight_files(self) -> list[str]:
        """Their names; they may be missing, see `expect_weight_files`. Raises as `read_index`."""
        return [SINGLE] if self.weight_map is None else sorted(set(self.weight_map.values()))

    def expect_weight_files(self) -> None:
        """Raises ModelNotFoundError, CheckpointError where a weight file is missing, or is none."""
        expect_weight_files(self.path, self.weight_files)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of the weights that are there, which is what memory is computed from."""
        return sum(path.stat().st_size for path in self.path.glob("*.safetensors") if path.is_file())

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all files, linked ones too, each once: the size on disk."""
        files = {path.resolve() for path in self.path.rglob("*") if path.is_file()}
        return sum(path.stat().st_size for path in files)

    @cached_property
    def fingerprint(self) -> str:
        """Which weights they are. Raises OSError."""
        return fingerprint(self.path)
