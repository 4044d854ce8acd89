"""Files with people's texts: nobody else may read them, and no crash and no full disk harms them."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from zaya_core.files.atomic_file import replacing


def make_private_folder(folder: Path) -> None:
    """Create a folder that nobody else may look into, and those above it that are missing. Raises OSError."""
    if not folder.is_dir():
        make_private_folder(folder.parent)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError:  # a file, or a link that leads nowhere: "File exists" would be no reason
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None


def close_to_others(path: Path) -> None:
    """Take from others what an earlier version, or an open umask, gave them of our own file or folder. Raises OSError.

    A link to a device, as to /dev/null, leaves the device as it is.
    """
    mode = path.stat().st_mode
    if mode & 0o077 and (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        path.chmod(mode & 0o700)


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """As `write_atomically`, for what is in memory."""
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file of mode 0600, then put it in place of `path` in one step.

    Whatever happens, `path` is the old file or the whole new one. Raises what `write` raises, and OSError.
    """
    make_private_folder(path.parent)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    with replacing(path, Path(name)) as new:
        write(new)
        new.chmod(0o600)
