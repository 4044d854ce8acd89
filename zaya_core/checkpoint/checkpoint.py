"""Open the safetensors files of a model folder: memory-mapped, validated, with every name accounted for.

Nothing is read or allocated before all headers have been checked against the shapes that the configuration implies.
Tensors are views of the mapped files, so that a checkpoint of 17.7 GB opens in a fraction of a second and never has a
second copy in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from quant.large_pages import prefer_large_pages
from zaya_core.checkpoint.accounting import TensorInfo, expect_layout, fault, index_faults, tensor_faults
from zaya_core.checkpoint.dtypes import DTYPES, nbytes_of
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.checkpoint.names import packed_parameters, parameters
from zaya_core.config.model_config import ModelConfig
from zaya_core.errors import CheckpointError
from zaya_core.files.names import printable

_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_ROWS_AT_ONCE = 4096


class Checkpoint:
    """The tensors of a validated model folder, by native name.

    Attributes: `parameters`, all of them in the order of `names.parameters`; `packed`, those of them that are stored
    packed; `dtype`, that of activations, which is that of the large matrices where they are stored as floats;
    `head_copy`, where a head is stored although it is the embedding.
    """

    def __init__(
        self,
        folder: Path,
        config: ModelConfig,
        shards: Mapping[str, Any],
        infos: Mapping[str, TensorInfo],
        head_copy: TensorInfo | None = None,
    ):
        self.folder = folder
        self.head_copy = head_copy
        self.parameters = {parameter.name: parameter for parameter in parameters(config)}
        self._shards = shards
        self._infos = infos if head_copy is None else {**infos, _HEAD: head_copy}
        self.packed = packed_parameters(config, infos)
        self.dtype = self._dtype_of_activations(config)

    def _dtype_of_activations(self, config: ModelConfig) -> torch.dtype:
        if config.quantization is not None and config.quantization.dtype is not None:
            return getattr(torch, config.quantization.dtype)
        return self.stored_dtype(_EMBEDDING)

    def tensor(self, name: str) -> Tensor:
        """The parameter, as a view of the mapped file in its stored dtype."""
        (source,) = self.parameters[name].sources
        return self._read(source)

    def experts(self, name: str) -> list[Tensor]:
        """The E matrices of a stack, each a view of the mapped file, stored together or apart."""
        return list(self.each_expert(name))

    def each_expert(self, name: str) -> Iterator[Tensor]:
        """The same one after the other: none is read, or kept, before it is asked for."""
        for source in self.parameters[name].sources:
            yield from _matrices(self._read(source))

    def packed_tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors of a packed parameter by suffix, views of the mapped file; those of a stack begin with E."""
        return {suffix: self.packed_tensor(name, suffix) for suffix in self.packed[name].sources}

    def packed_tensor(self, name: str, suffix: str) -> Tensor:
        """One of the tensors of a packed parameter; see `packed_tensors`."""
        return self._read(self.packed[name].sources[suffix])

    def stored_bytes(self, name: str) -> int:
        """Bytes of the parameter in the files."""
        packed = self.packed.get(name)
        sources = self.parameters[name].sources if packed is None else packed.sources.values()
        return self.nbytes_of(sources)

    def stored_dtype(self, name: str) -> torch.dtype:
        """The dtype of a parameter that is stored as floats."""
        return DTYPES[self._infos[self.parameters[name].sources[0]].dtype]

    def places_of(self, names: Iterable[str]) -> dict[str, frozenset[str]]:
        """By weight file, the tensors in it that these float parameters are read from, or compared with."""
        places: dict[str, set[str]] = {}
        for name in names:
            if name == _EMBEDDING and self.head_copy is not None:
                places.setdefault(self.head_copy.shard, set()).add(_HEAD)
            for source in self.parameters[name].sources:
                places.setdefault(self._infos[source].shard, set()).add(source)
        return {file: frozenset(tensors) for file, tensors in places.items()}

    def nbytes_of(self, tensors: Iterable[str]) -> int:
        """Bytes of tensors, by their names in the files."""
        infos = [self._infos[tensor] for tensor in tensors]
        return sum(nbytes_of(info.dtype, info.shape) for info in infos)

    def expect_equal_head(self) -> None:
        """Compare a stored copy of the head with the embedding that takes its place. Raises CheckpointError."""
        if self.head_copy is None:
            return
        head = self._shards[self.head_copy.shard].get_tensor(_HEAD)
        embedding = self.tensor(_EMBEDDING)
        for start in range(0, len(head), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            if not torch.equal(head[rows].float(), embedding[rows].float()):
                raise CheckpointError(
                    f"{self.folder} has a {_HEAD} that differs from {_EMBEDDING} (in rows {start} to "
                    f"{start + len(head[rows]) - 1}), but its config.json says that they are one "
                    "(tie_word_embeddings): set that to false if the head was trained by itself, or download the files "
                    "again, all of one revision."
                )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know of the files."""
        if self.head_copy is None:
            return ()
        return (f"{_HEAD} is stored although it is equal to {_EMBEDDING}, which is used for both.",)

    @property
    def files(self) -> list[str]:
        """Names of the weight files."""
        return list(self._shards)

    def _read(self, source: str) -> Tensor:
        return prefer_large_pages(self._shards[self._infos[source].shard].get_tensor(source))


def _matrices(stored: Tensor) -> Iterator[Tensor]:
    """Of a stack that is stored together, or of one matrix of it."""
    return iter(stored.unbind(0) if stored.ndim == 3 else (stored,))


def open_checkpoint(folder: str | Path | ModelFolder) -> Checkpoint:
    """Map all shards of a model folder and account for every tensor, both ways.

    Raises: as `read_config`; ModelNotFoundError when files are missing; CheckpointError when a header is damaged, or
    when tensors are missing, extra, misshapen, stored twice or in an unsupported dtype: all of them listed by name.
    """
    whole = ModelFolder.of(folder)
    path, config = whole.path, whole.config
    whole.expect_weight_files()
    shards = {name: _open_shard(path / name) for name in whole.weight_files}
    infos, faults = _collect(shards)
    if whole.weight_map is not None:
        faults += index_faults(whole.weight_map, infos)
    if config.quantization is None:
        expect_layout(path, config, infos)
    head_copy = _take_head_copy(config, infos)
    faults += tensor_faults(path, config, infos)
    if faults:
        raise CheckpointError(
            f"{path} does not fit its config.json ({config.layout} layout): {'; '.join(faults)}. "
            "Download the files again, all of one revision."
        )
    return Checkpoint(path, config, shards, infos, head_copy)


def _take_head_copy(config: ModelConfig, infos: dict[str, TensorInfo]) -> TensorInfo | None:
    """Take the head out of the accounts where it is the embedding, which programs for training store once more."""
    head, embedding = infos.get(_HEAD), infos.get(_EMBEDDING)
    if head is None or embedding is None or not config.tie_word_embeddings:
        return None
    is_readable = head.shape == embedding.shape and head.dtype in DTYPES
    return infos.pop(_HEAD) if is_readable else None


def _open_shard(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return safe_open(_name_in_utf8(path, file.fileno()), framework="pt", device="cpu")
    except OSError as error:
        reason = error.strerror or _reason(error)
        raise CheckpointError(f"{path} cannot be read ({reason}): check its permissions and the disk.") from None
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"{path} is damaged ({_reason(error)}; it has {path.stat().st_size:,} bytes): download this file again."
        ) from None


def _name_in_utf8(path: Path, descriptor: int) -> str:
    """The library takes no other names; those that Linux has besides lead through the open file."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return f"/proc/self/fd/{descriptor}"
    return str(path)


def _collect(shards: Mapping[str, Any]) -> tuple[dict[str, TensorInfo], list[str]]:
    infos: dict[str, TensorInfo] = {}
    twice = []
    for shard, opened in shards.items():
        for name in opened.keys():  # noqa: SIM118 - not a mapping
            header = opened.get_slice(name)
            if name in infos:
                twice.append(f"{name} (in {infos[name].shard} and {shard})")
            infos[name] = TensorInfo(shard, tuple(header.get_shape()), header.get_dtype())
    return infos, fault("stored twice", twice)


def _reason(error: Exception) -> str:
    return printable(str(error).strip().split("\n")[0])
