"""Why a file could not be written, as one of this program's errors."""

from __future__ import annotations

import errno
from pathlib import Path

from zaya_core.errors import DiskSpaceError, UsageError, ZayaError

# A full disk, a quota that is used up, a limit on the size of files (ulimit -f).
NO_ROOM = frozenset(getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name))


def write_error(path: Path, error: OSError) -> ZayaError:
    """DiskSpaceError where there is no room left, else UsageError."""
    kind = DiskSpaceError if error.errno in NO_ROOM else UsageError
    return kind(f"{path} cannot be written: {error.strerror or error}.")
