"""What people hand in, read up to a limit and not beyond: a device or a pipe may never end."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from zaya_core.errors import MissingFileError, UsageError


def read_at_most(stream: BinaryIO, most: int, name: str) -> bytes:
    """All that a stream has. Raises: UsageError that says `name` if it has more than `most` bytes; OSError."""
    parts, left = [], most + 1
    while left and (part := stream.read(left)):
        parts.append(part)
        left -= len(part)
    if not left:
        raise UsageError(f"{name} has more than {most:,} bytes, and no more are read: give less.")
    return b"".join(parts)


def read_file(path: Path, most: int, name: str | None = None) -> bytes:
    """All of a file.

    Raises: MissingFileError; UsageError if it has more than `most` bytes, is none or cannot be read.
    """
    name = str(path) if name is None else name
    try:
        with path.open("rb") as file:
            return read_at_most(file, most, name)
    except FileNotFoundError:
        raise MissingFileError(f"{name} does not exist: check the path.") from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}.") from None
    except ValueError:  # a zero byte
        raise UsageError(f"{name!r} is not the name of a file.") from None


def decoded(content: bytes, name: str) -> str:
    """UTF-8 without the mark that some editors put in front. Raises UsageError."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 text (byte {error.start:,}): convert it, or give another file."
        ) from None
