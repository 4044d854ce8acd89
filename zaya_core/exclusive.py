"""One process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from zaya_core.errors import UsageError


@contextmanager
def held(path: Path, refusal: str) -> Iterator[None]:
    """A lock file for the length of the block. Raises UsageError with `refusal` where somebody else holds it."""
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(refusal) from None
    try:
        yield
    finally:
        lock.release()
        path.unlink(missing_ok=True)
