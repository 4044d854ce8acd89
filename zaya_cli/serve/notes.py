"""Lines on stderr, written by a thread of their own: a reader that takes nothing, or has gone, holds up no answer."""

from __future__ import annotations

import queue
import threading
import time
from contextlib import suppress

from zaya_cli.terminal.output import write_note

_MOST = 1000  # lines that wait to be written; more are left out

_lines: queue.Queue[str] = queue.Queue(_MOST)
_writer: threading.Thread | None = None


def tell(line: str) -> None:
    """Write a line soon, as `write_note` does."""
    global _writer
    if _writer is None:
        _writer = threading.Thread(target=_write, name="notes", daemon=True)
        _writer.start()
    with suppress(queue.Full):
        _lines.put_nowait(line)


def wait_until_told(seconds: float = 1.0) -> None:
    """Until all lines are written, or nobody takes them."""
    until = time.monotonic() + seconds
    while _lines.unfinished_tasks and time.monotonic() < until:
        time.sleep(0.001)


def _write() -> None:
    while True:
        line = _lines.get()
        with suppress(OSError, ValueError):  # the reader has gone, or the stream is closed
            write_note(line)
        _lines.task_done()
