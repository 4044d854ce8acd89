"""What the check says, a line of JSON for each thing, and how it ends with the process that started it."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zaya_core.machine.kernel_verdict import KernelFailure

_GRACE = 5.0  # seconds
_STANDARD_INPUT = 0


def say_doing(what: str) -> None:
    """Name what is compiled or computed next; the last that was named is what a crash is blamed on."""
    _say(doing=what)


def say_unchecked(why: str) -> None:
    """Nothing can be found out now, through no fault of the kernels."""
    _say(unchecked=why)


def say_result(
    failed: Sequence[KernelFailure], worst: float, graphs: bool = False, graphs_fault: str | None = None
) -> None:
    """The last one counts: what came before a crash stays true. See `Verdict`."""
    _say(
        result={
            "failed": [asdict(one) for one in failed],
            "worst": worst,
            "graphs": graphs,
            "graphs_fault": graphs_fault,
        }
    )


def _say(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def end_with_parent(limit: float) -> None:
    """From now on this process ends when its standard input does, and in any case soon after `limit` seconds."""
    faulthandler.dump_traceback_later(limit + _GRACE, exit=True)  # works also while a kernel holds the interpreter
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    while os.read(_STANDARD_INPUT, 1):  # not by sys.stdin, whose lock a thread that waits would hold at the exit
        pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # compilers, too
    os._exit(1)
