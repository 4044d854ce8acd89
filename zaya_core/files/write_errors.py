"""Why a file could not be written, as one of this program's errors, and why none could be."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path

from zaya_core.errors import DiskSpaceError, UsageError, ZayaError

# A full disk, a quota that is used up, a limit on the size of files (ulimit -f).
NO_ROOM = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))


def write_error(path: Path, error: OSError) -> ZayaError:
    """DiskSpaceError where there is no room left, else UsageError."""
    kind = DiskSpaceError if error.errno in NO_ROOM else UsageError
    return kind(f"{path} cannot be written: {error.strerror or error}.")


def why_not_writable(folder: Path) -> str | None:
    """Why no file can be made in `folder`, or the folder itself; None if that works. Leaves nothing."""
    try:
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=nearest):
            return None
    except OSError as error:
        return error.strerror or str(error)
