"""A process beside this one that compares formulas: it is killed where a comparison takes too long.

Started when it is first needed, again after it was killed, and ended with this process. A fresh interpreter with pipes:
no fork, and no `multiprocessing`, which would run the main module of whoever embeds this. It gets this process's
`sys.path`, so that nothing that lies in the working directory is imported.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from zaya_core.answers.bounds import LONGEST_COMPARISON
from zaya_core.answers.patience import Patience
from zaya_core.child_process import can_have_children, ended_after, search_path

_START = "import sys; sys.path[:] = sys.argv[1:]; from zaya_core.answers.algebra import serve; serve()"
_LONGEST_START = 30.0  # seconds, on a slow disk
_IS_WORKER = "ZAYA_COMPARES_FORMULAS"  # set in the worker's environment: a worker starts no other


class Worker:
    """The process, or its absence. State: the process, whether it could ever be started. Safe to use by threads."""

    def __init__(self, code: str = _START, longest: float = LONGEST_COMPARISON):
        """code: what the interpreter runs. longest: seconds a comparison may take."""
        self._code = code
        self._longest = longest
        self._patience = Patience()
        self._process: subprocess.Popen[str] | None = None
        self._is_available = can_have_children() and _IS_WORKER not in os.environ
        self._lock = threading.Lock()
        atexit.register(self.stop)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def ask(self, pair: Sequence[str]) -> bool | None:
        """The verdict on two texts; None where there is none, because it took too long or no process can be had.

        Raises OutOfPatience when the budget of `limited_algebra` is spent.
        """
        with self._lock:
            process = self._running() if self._patience.allows(pair) else None
            if process is None:
                return None
            start = time.monotonic()
            reply = self._exchange(process, json.dumps(list(pair)), self._longest)
            self._patience.note(pair, (time.monotonic() - start) / self._longest, has_ended=bool(reply))
        return {"true": True, "false": False}.get(reply)

    def stop(self) -> None:
        """End the process, and wait until it has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        _close_pipes(process)
        process.wait()

    def _running(self) -> subprocess.Popen[str] | None:
        if self._process is not None and self._process.poll() is not None:
            self.stop()
        if self._process is None and self._is_available:
            self._is_available = self._start()
        return self._process

    def _start(self) -> bool:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", self._code, *search_path()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="ascii",
                errors="replace",
                env={**os.environ, _IS_WORKER: "1"},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except (OSError, ValueError):
            return False
        if self._exchange(self._process, None, _LONGEST_START) == "ready":
            return True
        self.stop()
        return False

    def _exchange(self, process: subprocess.Popen[str], line: str | None, longest: float) -> str:
        """Send a line, if any, and read one; "" when the process ended, or was ended because it took too long."""
        assert process.stdin is not None and process.stdout is not None
        reply = ""
        try:
            with ended_after(longest, process.kill) as was_killed, contextlib.suppress(OSError):
                if line is not None:
                    process.stdin.write(line + "\n")
                    process.stdin.flush()
                reply = process.stdout.readline().strip()
        except BaseException:  # Ctrl-C, say: the reply that is under way would be taken for the next one's
            self.stop()
            raise
        if was_killed.is_set() or not reply:
            self.stop()
        return reply

    def _forget(self) -> None:
        """In a forked process: the worker is its parent's."""
        self._lock = threading.Lock()
        process, self._process = self._process, None
        if process is not None:
            process.returncode = 0
            _close_pipes(process)


def _close_pipes(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # what was not sent yet need not be
            if pipe is not None:
                pipe.close()
