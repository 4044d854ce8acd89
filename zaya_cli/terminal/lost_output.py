"""What a full disk or a closed pipe does not take: answers go elsewhere, notes are lost, nothing ends by it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

_lost: list[OSError] = []  # why standard output no longer takes anything


def lost_output() -> OSError | None:
    """Why standard output did not take all of the answer; None where it did."""
    return _lost[0] if _lost else None


def divert_stdout(error: OSError) -> str:
    """Send all that follows to stderr. Returns the reason in words."""
    _lost.append(error)
    discard_stdout()
    sys.stdout = sys.stderr
    return "its reader has gone" if isinstance(error, BrokenPipeError) else error.strerror or str(error)


def discard_stdout() -> None:
    """Let it take everything: Python would complain again when it flushes at exit."""
    with suppress(OSError, ValueError):  # no file, as in a test
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def settle_stdout() -> None:
    """Write what is left in its buffer, or discard that."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_stdout()


def expect_losses() -> None:
    """Nothing is lost yet. Let stderr take everything: no answer depends on a note that a full disk does not hold."""
    _lost.clear()
    if not isinstance(sys.stderr, _Notes):
        sys.stderr = cast(TextIO, _Notes(sys.stderr))


class _Notes:
    """Standard error that raises for a reader who has gone only."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with _without_loss():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with _without_loss():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _without_loss() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        pass
