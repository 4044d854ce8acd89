"""A process beside this one that runs this program's own code: where it finds that, and how long it may take."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def can_have_children() -> bool:
    """Whether there is an interpreter to start: a frozen program has none."""
    return bool(sys.executable) and not getattr(sys, "frozen", False)


def search_path() -> list[str]:
    """Where this process finds its modules, without the working directory; and where this package lies."""
    package = str(Path(__file__).parents[1])
    return [*(path for path in sys.path if path), package]


@contextlib.contextmanager
def ended_after(seconds: float, end: Callable[[], None]) -> Iterator[threading.Event]:
    """Call `end` unless the block ends before; the event tells that it was. Works where no pipe can be polled."""
    was_ended = threading.Event()

    def act() -> None:
        was_ended.set()
        end()

    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    try:
        yield was_ended
    finally:
        timer.cancel()
        timer.join()


def end_with_descendants(process: subprocess.Popen[Any]) -> None:
    """Kill a process that began with `start_new_session`, and all that it has started; it is still to be waited for."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        return
    import psutil  # for Windows alone

    with contextlib.suppress(psutil.Error):
        for one in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                one.kill()
    process.kill()
