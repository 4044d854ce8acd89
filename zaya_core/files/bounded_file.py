"""A file, read up to a limit and not beyond: a device or a pipe may never end, and a damaged one may be of any size."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from zaya_core.errors import MissingFileError, UsageError, ZayaError

Fault = Callable[[OSError | ValueError], ZayaError]  # from why a file could not be read to the error that is raised


class TooLargeError(ValueError):
    """There is more than is read. size: in bytes, at least. beginning: some of the first bytes."""

    def __init__(self, size: int, beginning: bytes) -> None:
        super().__init__(f"{size:,} bytes")
        self.size, self.beginning = size, beginning


def read_at_most(stream: BinaryIO, most: int, name: str) -> bytes:
    """All that a stream has. Raises: UsageError that says `name` if it has more than `most` bytes; OSError."""
    try:
        return _read(stream, most)
    except TooLargeError:
        raise _too_large(name, most) from None


def read_file(path: Path, most: int, name: str | None = None, fault: Fault | None = None) -> bytes:
    """All of a file. Raises what `fault` makes of an OSError, of a ValueError for a path that is no name, and of a
    TooLargeError where there are more than `most` bytes.

    fault: None for a file that a person hands in, called `name`, else as the path: MissingFileError, or UsageError.
    """
    try:
        with path.open("rb") as file:
            return _read(file, most)
    except (OSError, ValueError) as error:
        raise _handed_in(name or str(path), most, error) if fault is None else fault(error) from None


def decoded(content: bytes, name: str) -> str:
    """UTF-8 without the mark that some editors put in front. Raises UsageError."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 text (byte {error.start:,}): convert it, or give another file."
        ) from None


def _read(stream: BinaryIO, most: int) -> bytes:
    parts, left = [], most + 1
    while left and (part := stream.read(left)):
        parts.append(part)
        left -= len(part)
    if not left:
        raise TooLargeError(max(most + 1, _size_of(stream)), parts[0][:512])
    return b"".join(parts)


def _size_of(stream: BinaryIO) -> int:
    """As the file system has it; 0 for what has no size."""
    try:
        return os.fstat(stream.fileno()).st_size
    except (OSError, ValueError, AttributeError):
        return 0


def _handed_in(name: str, most: int, error: OSError | ValueError) -> ZayaError:
    if isinstance(error, TooLargeError):
        return _too_large(name, most)
    if isinstance(error, FileNotFoundError):
        return MissingFileError(f"{name} does not exist: check the path.")
    if isinstance(error, OSError):
        return UsageError(f"{name} cannot be read: {error.strerror or error}.")
    return UsageError(f"{name!r} is not the name of a file.")  # a zero byte


def _too_large(name: str, most: int) -> UsageError:
    return UsageError(f"{name} has more than {most:,} bytes, and no more are read: give less.")
