"""What headers say of the tensors of a checkpoint, held against what a configuration implies: both ways, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quant.formats import StoredTensor
from zaya_core.checkpoint.dtypes import DTYPES
from zaya_core.checkpoint.names import expected_tensors
from zaya_core.checkpoint.original_names import layout_of_names
from zaya_core.config.model_config import ModelConfig
from zaya_core.errors import CheckpointError
from zaya_core.files.names import listed


@dataclass(frozen=True)
class TensorInfo:
    """What a header says of one tensor; no data is read for it."""

    shard: str
    shape: tuple[int, ...]
    dtype: str


def expect_layout(folder: Path, config: ModelConfig, names: Mapping[str, TensorInfo]) -> None:
    """Thousands of missing and extra names would say the same, but not what to do."""
    layout = layout_of_names(names)
    if layout is not None and layout != config.layout:
        raise CheckpointError(
            f"{folder} has weights of the {layout} layout, but its config.json describes the {config.layout} one: "
            "the files are of two revisions or repositories; download config.json and the weights from the same one."
        )


def index_faults(weight_map: Mapping[str, str], infos: Mapping[str, TensorInfo]) -> list[str]:
    """Where index and headers disagree."""
    misplaced = [
        f"{name} (index: {shard}, found in {infos[name].shard if name in infos else 'no file'})"
        for name, shard in weight_map.items()
        if name not in infos or infos[name].shard != shard
    ]
    unlisted = [name for name in infos if name not in weight_map]
    return fault("not where the index says", misplaced) + fault("not in the index", unlisted)


def _expected(folder: Path, config: ModelConfig, infos: Mapping[str, TensorInfo]) -> dict[str, StoredTensor]:
    try:
        return expected_tensors(config, infos)
    except ValueError as error:
        raise CheckpointError(f"{folder} has a config.json that no quantized folder can have: {error}.") from None


def tensor_faults(folder: Path, config: ModelConfig, infos: Mapping[str, TensorInfo]) -> list[str]:
    """Tensors that are missing, extra, misshapen or of another dtype. Raises CheckpointError for sizes of no format."""
    expected = _expected(folder, config, infos)
    missing = [name for name in expected if name not in infos]
    extra = [name for name in infos if name not in expected]
    present = [name for name in expected if name in infos]
    misshapen = [
        f"{name} is {list(infos[name].shape)} instead of {list(expected[name].shape)}"
        for name in present
        if infos[name].shape != expected[name].shape
    ]
    strange = [
        f"{name} is {infos[name].dtype}"
        for name in present
        if DTYPES.get(infos[name].dtype) not in expected[name].dtypes
    ]
    return (
        fault("missing", missing)
        + fault("extra", extra)
        + fault("misshapen", misshapen)
        + fault("of a dtype that is not read there (floats: BF16 and F32; F16 overflows in this model)", strange)
    )


def fault(what: str, names: list[str]) -> list[str]:
    """At most one sentence, with at most fifty names."""
    return [f"{len(names)} {what}: {listed(names)}"] if names else []
