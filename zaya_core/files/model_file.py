"""The files of a model folder, and what a file is where it is not what its name says.

Repositories that were cloned without their large files, downloads that broke off and web pages saved under a model's
names are all met. Nothing but a regular file is opened, and nothing is read beyond the limit of its kind.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from zaya_core.errors import CheckpointError, ModelNotFoundError
from zaya_core.files.bounded_file import TooLargeError, read_file
from zaya_core.files.names import printable

_BEGINNING = 512  # bytes that tell a pointer or a web page from what it stands for


def read_model_file(path: Path, at_most: int, failure: type[CheckpointError] = CheckpointError) -> bytes:
    """The content of a file. Raises as `expect_model_file`; `failure` above `at_most` bytes."""

    def fault(error: OSError | ValueError) -> CheckpointError | ModelNotFoundError:
        if not isinstance(error, TooLargeError):
            return _not_read(path, error, failure)
        _expect_genuine(path, error.beginning, failure)
        return failure(
            f"{path} has {error.size:,} bytes, and more than {at_most:,} is no such file: download it again."
        )

    _expect_regular(path, failure)
    content = read_file(path, at_most, fault=fault)
    _expect_genuine(path, content[:_BEGINNING], failure)
    return content


def expect_model_file(path: Path, failure: type[CheckpointError] = CheckpointError) -> None:
    """Raises ModelNotFoundError where something else stands in the place of the file; `failure` where it cannot be read
    or is a web page."""
    _expect_regular(path, failure)
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except (OSError, ValueError) as error:
        raise _not_read(path, error, failure) from None
    _expect_genuine(path, beginning, failure)


def _expect_regular(path: Path, failure: type[CheckpointError]) -> None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        raise _not_read(path, error, failure) from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise ModelNotFoundError(f"{path} is {what}, not a file: delete it and download the file.")


def _not_read(
    path: Path, error: OSError | ValueError, failure: type[CheckpointError]
) -> CheckpointError | ModelNotFoundError:
    if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ELOOP):
        return ModelNotFoundError(_missing(path))
    reason = getattr(error, "strerror", None) or str(error)
    return failure(f"{path} cannot be read ({reason}): check its permissions and the disk.")


def _expect_genuine(path: Path, beginning: bytes, failure: type[CheckpointError]) -> None:
    _expect_no_pointer(path, beginning)
    if beginning.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        raise failure(f"{path} is a web page, as a failed download leaves it: download the file again.")


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
