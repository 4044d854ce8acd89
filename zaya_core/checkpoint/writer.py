"""Write one safetensors file piece by piece: its header is known before any tensor is, so memory stays small.

The file has its name only when it is complete: until then its bytes lie beside it under another one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from quant.formats import StoredTensor
from zaya_core.checkpoint.dtypes import NAMES
from zaya_core.errors import DiskSpaceError, UsageError
from zaya_core.files.atomic_file import put_in_place, replacing
from zaya_core.files.write_errors import NO_ROOM

_ALIGNMENT = 64


class ShardWriter:
    """A context manager: at its end the file is flushed to the disk and gets its name, unless there was an error.

    Tensors come in any order, whole or by entries of their first dimension, in the first dtype of their `StoredTensor`.
    """

    def __init__(self, path: Path, tensors: Mapping[str, StoredTensor]):
        self.path = path
        self.tensors = tensors
        self._header, self._offsets = _header(tensors)
        self._unwritten = {name: tensor.nbytes for name, tensor in tensors.items()}

    def __enter__(self) -> ShardWriter:
        with writing(self.path):
            self._file = self.unfinished.open("wb")
            self._file.write(self._header)
        return self

    @property
    def unfinished(self) -> Path:
        """Where the bytes lie until they are complete."""
        return self.path.with_name(self.path.name + ".unfinished")

    def write(self, name: str, tensor: Tensor, index: int | None = None) -> None:
        """The whole tensor, or entry `index` of its first dimension."""
        stored = self.tensors[name]
        shape = stored.shape if index is None else stored.shape[1:]
        if tensor.shape != shape or tensor.dtype != stored.dtypes[0]:
            raise ValueError(f"{name}: {tuple(tensor.shape)} {tensor.dtype} instead of {shape} {stored.dtypes[0]}")
        data = tensor.contiguous().view(-1).view(torch.uint8).numpy()
        with writing(self.path):
            self._file.seek(self._offsets[name] + (index or 0) * data.nbytes)
            self._file.write(data.data)
        self._unwritten[name] -= data.nbytes

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            missing = [name for name, nbytes in self._unwritten.items() if nbytes]
            if missing:
                raise ValueError(f"not written: {missing}")
        with writing(self.path):
            self._file.close()
            if kind is None:
                put_in_place(self.unfinished, self.path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What goes wrong while a file is written, as a sentence. Raises DiskSpaceError, UsageError."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise DiskSpaceError(
                f"The disk of {path.parent} is full, or has a limit on files ({error.strerror}): free some space and "
                "run the same command again, it goes on from where it was."
            ) from None
        raise UsageError(
            f"{path} cannot be written ({error.strerror}): give --out FOLDER in a place that you may write to."
        ) from None


def write_small(path: Path, content: bytes) -> None:
    """Replace a small file as a whole. Raises as `writing`."""
    with writing(path), replacing(path) as new:
        new.write_bytes(content)


def shard_bytes(tensors: Mapping[str, StoredTensor]) -> int:
    """Size of the file."""
    return len(_header(tensors)[0]) + sum(tensor.nbytes for tensor in tensors.values())


def _header(tensors: Mapping[str, StoredTensor]) -> tuple[bytes, dict[str, int]]:
    """The first bytes of the file, padded so that data starts at a multiple of 64, and where each tensor begins."""
    ordered = sorted(tensors.items(), key=lambda item: -item[1].nbytes)  # large first: all begin aligned
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    position = 0
    for name, tensor in ordered:
        end = position + tensor.nbytes
        shape, dtype = list(tensor.shape), NAMES[tensor.dtypes[0]]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        offsets[name], position = position, end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    start = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, {name: start + offset for name, offset in offsets.items()}
