"""Which files of a model folder hold its weights: one file, or several and an index from tensors to files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from zaya_core.errors import CheckpointError, ModelNotFoundError
from zaya_core.files.model_file import expect_model_file
from zaya_core.files.model_json import INDEX, read_json
from zaya_core.files.names import listed, printable

SINGLE = "model.safetensors"
_ADAPTER = "adapter_model.safetensors"
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".npz", ".msgpack", ".h5", ".onnx")


def read_index(folder: Path) -> dict[str, str] | None:
    """Tensor name to file name, None where there is no index and one file.

    Raises: ModelNotFoundError where there is neither; CheckpointError for an index that is damaged.
    """
    path = folder / INDEX
    if not os.path.lexists(path):
        if not os.path.lexists(folder / SINGLE):
            raise ModelNotFoundError(_no_weights(folder))
        return None
    index = read_json(path)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path} has no weight_map from tensors to files: download the file again.")
    for shard in set(map(str, weight_map.values())):
        _check_shard_name(path, shard)
    return weight_map


def _no_weights(folder: Path) -> str:
    """With what is there instead."""
    files = sorted(path.name for path in folder.iterdir())
    others = [name for name in files if name.lower().endswith(_OTHER_WEIGHTS)]
    shards = [name for name in files if name.endswith(".safetensors")]
    if _ADAPTER in files:
        found = f"; {_ADAPTER} holds the changes of a fine-tuning only: merge it into its model and save that"
    elif shards:
        found = f"; {listed(shards)} cannot be used without the index that says what lies where"
    elif others:
        found = f"; {listed(others)} cannot be used: it is another format, and pickled weights can run code"
    else:
        found = ""
    return (
        f"{folder} has neither {SINGLE} nor {INDEX}{found}: only safetensors weights are read, "
        "download those of the model."
    )


def _check_shard_name(index: Path, shard: str) -> None:
    """A shard is a plain file name in the folder. (Symbolic links, which the hub cache is made of, are followed.)"""
    if not shard.endswith(".safetensors") or any(mark in shard for mark in ("/", "\\", ":", "\0")):
        raise CheckpointError(
            f"{index} names the weight file {printable(shard)!r}; a plain *.safetensors name in the folder is needed: "
            "download the index again."
        )


def expect_weight_files(folder: Path, names: Sequence[str]) -> None:
    """All weight files are there and are files, and there are no others that could be meant instead. None is read.

    Raises: ModelNotFoundError for files that are missing or stand for another; CheckpointError beside a file that could
    be meant instead.
    """
    absent = [name for name in names if not os.path.lexists(folder / name)]
    has_other = SINGLE not in names and os.path.lexists(folder / SINGLE)
    if has_other:
        state = f", of which {len(absent)} are not there" if absent else ""
        raise CheckpointError(
            f"{folder} has two sets of weights: {SINGLE}, and the {len(names)} files that {INDEX} names{state}. The "
            f"index of another build stays behind where a model is saved over an older one: delete {INDEX} if {SINGLE} "
            f"is meant, or {SINGLE} if the others are."
        )
    if absent:
        raise ModelNotFoundError(
            f"{folder} lacks {listed(absent)} ({len(absent)} of {len(names)} weight files): finish the download."
        )
    for name in names:
        expect_model_file(folder / name)
