"""A safetensors file of which only some parts are there: header, end and perhaps a few tensors, the rest a hole.

It has the size of the whole file and takes little of the disk, so that what looks at headers and ends of files
(`open_checkpoint`, `fingerprint`) works before the whole file has come, and after it has been deleted. Whoever reads a
tensor must know that it is there: a hole reads as zeros.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path

from zaya_core.checkpoint.fingerprint import END_BYTES
from zaya_core.errors import CheckpointError
from zaya_core.files.atomic_file import replacing

_LARGEST_HEADER = 100_000_000  # what the safetensors library reads
_PROBE = 4 << 20
_COPIED_AT_ONCE = 16 << 20


def keeps_holes(folder: Path) -> bool:
    """Whether the file system of `folder` has files with holes that take no space, and symbolic links."""
    probe, link = folder / ".holes", folder / ".holes.link"
    try:
        _write(probe, _PROBE, [(_PROBE - 1, b"\0")])
        os.symlink(probe.name, link)
        return getattr(os.stat(link), "st_blocks", _PROBE) * 512 < _PROBE // 2
    except OSError:
        return False
    finally:
        link.unlink(missing_ok=True)
        probe.unlink(missing_ok=True)


def header_bytes(beginning: bytes, name: str) -> int:
    """How many bytes the header takes, its length included. Raises CheckpointError for one that cannot be."""
    length = int.from_bytes(beginning[:8], "little")
    if len(beginning) < 8 or length > _LARGEST_HEADER:
        raise CheckpointError(f"{name} does not begin as a safetensors file does: it cannot be used.")
    return 8 + length


def write_outline(path: Path, size: int, beginning: bytes, end: bytes) -> None:
    """A file of `size` bytes that holds only how it begins and ends."""
    _write(path, size, [(0, beginning), (size - len(end), end)])


def has_ends_of(outline: Path, whole: Path) -> bool:
    """Whether both files have the same size, beginning and end."""
    sizes = {path.stat().st_size for path in (outline, whole)}
    ends = []
    for path in (outline, whole):
        with path.open("rb") as file:
            beginning = file.read(END_BYTES)
            file.seek(max(0, path.stat().st_size - END_BYTES))
            ends.append((beginning, file.read()))
    return len(sizes) == 1 and ends[0] == ends[1]


def write_reduced(whole: Path, path: Path, tensors: Collection[str]) -> None:
    """A file like `whole` that holds only how it begins and ends, and these tensors."""
    size = whole.stat().st_size
    with whole.open("rb") as source, replacing(path) as new, new.open("wb") as out:
        header = header_bytes(source.read(8), whole.name)
        entries = json.loads(source.read(header - 8))
        spans = [(0, max(header, min(END_BYTES, size))), (max(0, size - END_BYTES), size)]
        spans += [(header + begin, header + end) for begin, end in (entries[one]["data_offsets"] for one in tensors)]
        out.truncate(size)
        for begin, end in spans:
            source.seek(begin)
            out.seek(begin)
            for start in range(begin, end, _COPIED_AT_ONCE):
                out.write(source.read(min(_COPIED_AT_ONCE, end - start)))


def _write(path: Path, size: int, parts: Iterable[tuple[int, bytes]]) -> None:
    with replacing(path) as new, new.open("wb") as file:
        file.truncate(size)
        for offset, content in parts:
            file.seek(offset)
            file.write(content)
