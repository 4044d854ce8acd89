"""Read the small files of a model folder, and say what a file is where it is not what its name says.

Repositories that were cloned without their large files, downloads that broke off and web pages saved under a model's
names are all met. Nothing but a regular file is opened, and nothing is read beyond the limit of its kind.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zaya_core.errors import CheckpointError, ModelNotFoundError

_LISTED_AT_MOST = 50
_BEGINNING = 512  # bytes that tell a pointer or a web page from what it stands for


def read_json(path: Path, at_most: int, failure: type[CheckpointError] = CheckpointError) -> Any:
    """What a JSON file holds. Raises as `read_file`; `failure` for what is not JSON."""
    content = read_file(path, at_most, failure)
    try:
        return json.loads(content.decode().removeprefix("\ufeff"))
    except RecursionError:
        raise failure(f"{path} is not valid JSON (nested too deeply): download the file again.") from None
    except ValueError as error:  # of a number with too many digits, too
        reason = str(error).splitlines()[0]
        raise failure(f"{path} is not valid JSON ({reason}): download the file again.") from None


def read_file(path: Path, at_most: int, failure: type[CheckpointError] = CheckpointError) -> bytes:
    """The content of a file. Raises as `expect_file`; `failure` above `at_most` bytes."""
    expect_file(path, failure)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(at_most + 1) if size <= at_most else b""
    except OSError as error:
        raise failure(_unreadable(path, error)) from None
    if max(size, len(content)) > at_most:
        raise failure(f"{path} has {size:,} bytes, and more than {at_most:,} is no such file: download it again.")
    return content


def expect_file(path: Path, failure: type[CheckpointError] = CheckpointError) -> None:
    """Raises ModelNotFoundError where something else stands in the place of the file; `failure` where it cannot be read
    or is a web page."""
    try:
        kind = path.stat()
        if not stat.S_ISREG(kind.st_mode):
            what = "a folder" if stat.S_ISDIR(kind.st_mode) else "a pipe, socket or device"
            raise ModelNotFoundError(f"{path} is {what}, not a file: delete it and download the file.")
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in (errno.ENOENT, errno.ELOOP):
            raise ModelNotFoundError(_missing(path)) from None
        raise failure(_unreadable(path, error)) from None
    _expect_no_pointer(path, beginning)
    if beginning.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise failure(f"{path} is a web page, as a failed download leaves it: download the file again.")


def whole_number(value: Any) -> Any:
    """A number without a fraction as int, since some programs write 50 as 50.0; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def printable(name: str) -> str:
    """A name from a file, without what could steer a terminal, and not endless."""
    name = name if name.isprintable() else ascii(name)
    return name if len(name) <= 240 else f"{name[:240]}..."


def listed(names: Sequence[str]) -> str:
    """Names from a file for a message: sorted, fit for a terminal, at most fifty."""
    shown = ", ".join(printable(name) for name in sorted(names)[:_LISTED_AT_MOST])
    return shown if len(names) <= _LISTED_AT_MOST else f"{shown}, and {len(names) - _LISTED_AT_MOST} more"


def _expect_no_pointer(path: Path, beginning: bytes) -> None:
    if not beginning:
        raise ModelNotFoundError(f"{path} is empty (0 bytes): the download did not finish; download the file again.")
    if beginning.startswith(b"version https://git-lfs"):
        raise ModelNotFoundError(
            f"{path} is a Git LFS pointer, not the file itself: type `git lfs pull` in its folder, or download the "
            "model with `zaya pull`."
        )
    if beginning.startswith(b"/annex/objects/"):
        raise ModelNotFoundError(_annexed(path))


def _missing(path: Path) -> str:
    if not path.is_symlink():
        return f"There is no {path}: finish the download."
    target = os.readlink(path)
    if "annex/objects/" in target.replace(os.sep, "/"):
        return _annexed(path)
    return (
        f"{path} is a link to {printable(target)}, which is not there: finish the download, or copy the folder "
        "together with what its links lead to."
    )


def _annexed(path: Path) -> str:
    return (
        f"{path} is a git-annex pointer, not the file itself: type `git annex get .` in its folder, or download the "
        "model with `zaya pull`."
    )


def _unreadable(path: Path, error: OSError | ValueError) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return f"{path} cannot be read ({reason}): check its permissions and the disk."
