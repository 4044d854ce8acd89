"""One process at a time, by lock files that the system frees when their holder ends, however it ends.

A lock file stays behind when it is released: somebody may have opened it already, and would hold a file that is gone
while a third one locks a new file of the same name. Where it must go, its holder removes it, and whoever gets a lock
looks whether it is still that of the file with this name.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import lock_descriptor

from zaya_core.errors import NoLocksError, UsageError

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
_PAUSE = 0.02  # seconds between two attempts
_SIGNATURE = 1  # where the holder's number is: Windows lets nobody else read the first byte, which is locked


class Lock:
    """A lock file that this process holds until it is released."""

    def __init__(self, path: Path, descriptor: int):
        self.path = path
        self._descriptor = descriptor

    def release(self) -> None:
        """Leave the file to the next one."""
        os.close(self._descriptor)

    def release_and_remove(self) -> None:
        """For a name that nobody will use again."""
        with suppress(OSError):  # Windows removes no open file: it stays
            self.path.unlink()
        self.release()


def lock_beside(path: Path) -> Path:
    """The lock file of a file or folder: hidden, and not inside, because a folder may be renamed or removed."""
    return path.with_name(f".{path.name}.lock")


def try_lock(path: Path, patience: float = 0.0) -> Lock | None:
    """The lock; None where somebody else still holds it after so many seconds.

    Raises NoLocksError on a file system without locks; OSError where the file cannot be made.
    """
    end = time.monotonic() + patience
    while (lock := _attempt(path)) is None and time.monotonic() < end:
        time.sleep(_PAUSE)
    return lock


@contextmanager
def held(path: Path, doing: str, advice: str) -> Iterator[None]:
    """A lock file for the length of the block.

    Raises UsageError, `Another zaya is {doing} (process 123): {advice}.`, where somebody else holds it; else as
    `try_lock`.
    """
    lock = try_lock(path)
    if lock is None:
        raise UsageError(f"Another zaya is {doing} ({holder_of(path)}): {advice}.")
    try:
        yield
    finally:
        lock.release()


def holder_of(path: Path) -> str:
    """Who holds a lock, in words."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(_SIGNATURE)
        number = file.read(20)
        if number.isdigit():
            return f"process {int(number)}"
    return "its process cannot be seen"


def _attempt(path: Path) -> Lock | None:
    while True:
        descriptor = os.open(path, _FLAGS, 0o600)
        try:
            is_ours = _is_locked(descriptor, path)
            if is_ours and _has_name(descriptor, path):
                _sign(descriptor)
                return Lock(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not is_ours:
            return None


def _is_locked(descriptor: int, path: Path) -> bool:
    try:
        return lock_descriptor(descriptor, blocking=False)
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or "not implemented"
        raise NoLocksError(
            f"The file system of {path.parent} has no locks ({reason}), so that two programs could overwrite each "
            "other's work: choose a folder on a local disk."
        ) from None


def _has_name(descriptor: int, path: Path) -> bool:
    """False for a file that its last holder has removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    with suppress(OSError):  # a full disk: the lock counts all the same
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f" {os.getpid()}".encode())
