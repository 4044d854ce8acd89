"""What a quantization reads and writes: formats, shards, sizes and the `config.json` of the result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from quant.formats import FORMAT_VERSION, GROUP, Format, StoredTensor, stored_tensors
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.checkpoint.writer import shard_bytes
from zaya_core.config.parse import parse_config
from zaya_core.config.quantization import Quantization
from zaya_core.config.weight_formats import DEFAULT_DENSE, DEFAULT_EXPERTS, FLOAT, is_fitted
from zaya_core.errors import UsageError
from zaya_core.files.model_json import UNFINISHED_FOLDER
from zaya_core.quantize.calibration_text import CalibrationText
from zaya_core.quantize.source_files import SourceFiles


@dataclass(frozen=True)
class QuantizeSettings:
    """What to make.

    dense None: attention, embedding and head stay as they are. calibration None: without. source_name and
    source_revision: what the result remembers of its source.
    """

    experts: Format = DEFAULT_EXPERTS
    dense: Format | None = DEFAULT_DENSE
    calibration: CalibrationText | None = None
    source_name: str | None = None
    source_revision: str | None = None


@dataclass(frozen=True)
class Shard:
    """One file of the result: its parameters, and its tensors by name."""

    file: str
    parameters: tuple[str, ...]
    tensors: dict[str, StoredTensor]


class QuantizationJob:
    """One quantization. `unfinished` is the folder that becomes `out` when everything is in it."""

    def __init__(
        self, source: Path | ModelFolder, out: Path, settings: QuantizeSettings, files: SourceFiles | None = None
    ):
        """files: how the weight files of the source come; None where all are there.

        Raises the errors of an unusable source; UsageError for what cannot be quantized as asked.
        """
        self.folder = ModelFolder.of(source)
        self.source, self.out, self.settings = self.folder.path, out, settings
        self.files = files or SourceFiles()
        self.unfinished = out.parent / f"{out.name}{UNFINISHED_FOLDER}"
        self.config = self.folder.config
        if self.config.quantization is not None:
            raise UsageError(f"{self.source} is quantized already: give the folder of the unquantized model.")
        self.reopen()
        dtype = str(self.checkpoint.dtype).removeprefix("torch.")
        self.formats = Quantization(settings.experts, settings.dense, dtype, is_ours=True)
        self.shards = self._plan_shards()

    def reopen(self) -> None:
        """Map the source anew: pages of a mapped file count as this process's memory, and one that was deleted keeps
        its space, as long as it is open."""
        self.checkpoint = open_checkpoint(self.folder)

    def _plan_shards(self) -> list[Shard]:
        """One shard a layer, then one for the rest."""
        layers = self.config.num_hidden_layers
        by_shard: list[list[str]] = [[] for _ in range(layers + 1)]
        for name in self.checkpoint.parameters:
            by_shard[int(name.split(".")[2]) if name.startswith("model.layers.") else layers].append(name)
        return [
            Shard(f"model-{number:05d}-of-{layers + 1:05d}.safetensors", tuple(names), self._tensors_of(names))
            for number, names in enumerate(by_shard, 1)
        ]

    def _tensors_of(self, names: list[str]) -> dict[str, StoredTensor]:
        tensors: dict[str, StoredTensor] = {}
        for name in names:
            kind, shape = self.formats.format_of(name), self.checkpoint.parameters[name].shape
            if kind is None:
                tensors[name] = StoredTensor(shape, (self.checkpoint.stored_dtype(name),))
                continue
            try:
                stored = stored_tensors(kind, shape)
            except ValueError as error:
                raise UsageError(f"{self.source}: {name} cannot be quantized: {error}.") from None
            tensors.update({f"{name}.{suffix}": one for suffix, one in stored.items()})
        return tensors

    @cached_property
    def config_json(self) -> bytes:
        """`config.json` of the result."""
        raw = {**self.folder.settings, "quantization": self._block()}
        parse_config(raw)
        # Half a character, as a name that is no UTF-8 is read, becomes its escape in JSON.
        return (json.dumps(raw, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")

    def _block(self) -> dict[str, Any]:
        settings, text = self.settings, self.settings.calibration
        return {
            "format_version": FORMAT_VERSION,
            "format": settings.experts,
            "dense": settings.dense or FLOAT,
            "group_size": GROUP,
            "dtype": self.formats.dtype,
            "rounding": self._rounding(),
            "calibration": text and {"text": text.name, "tokens": text.ids.numel(), "sha256": text.sha256},
            "source": {
                "name": settings.source_name or self.source.name,
                "revision": settings.source_revision,
                "fingerprint": self.folder.fingerprint,
            },
        }

    def _rounding(self) -> str:
        if not self.is_fitted:
            return "to nearest"
        return "searched scales" if self.settings.calibration is None else "searched scales, compensated errors"

    @property
    def is_fitted(self) -> bool:
        """Whether calibration has anything to say: most formats have one way of rounding."""
        return is_fitted(self.settings.experts) or self.with_dense

    def is_calibrated(self, number: int) -> bool:
        """Whether the inputs of the matrices in this shard are measured."""
        is_layer = number < self.config.num_hidden_layers
        return self.is_fitted and self.settings.calibration is not None and (is_layer or self.with_dense)

    @property
    def with_dense(self) -> bool:
        """Whether calibration has anything to say on attention and head."""
        return is_fitted(self.settings.dense)

    def weights_of(self, shard: Shard) -> int:
        """How many numbers of the source go into a shard."""
        return sum(torch.Size(self.checkpoint.parameters[name].shape).numel() for name in shard.parameters)

    def is_complete(self, shard: Shard) -> bool:
        """Whether it has been written."""
        return (self.unfinished / shard.file).is_file()

    def bytes_of(self, shard: Shard) -> int:
        """Size of the file."""
        return shard_bytes(shard.tensors)
