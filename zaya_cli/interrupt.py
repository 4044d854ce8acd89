"""Ctrl-C and SIGTERM as a small state machine: the first asks to stop, the second leaves at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from zaya_cli.failures import INTERRUPTED, TERMINATED


class StopRequest:
    """Whether, and with which exit code, the person asked to stop."""

    def __init__(self, on_first: Callable[[], None]):
        self.exit_code: int | None = None
        self._on_first = on_first

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code is not None:
            sys.stderr.write("\x1b[0m\n" if sys.stderr.isatty() else "\n")
            sys.stderr.flush()
            os._exit(self.exit_code)
        self.exit_code = TERMINATED if number == signal.SIGTERM else INTERRUPTED
        self._on_first()


@contextmanager
def stopping(on_first: Callable[[], None]) -> Iterator[StopRequest]:
    """Within the block, the first signal calls `on_first` instead of raising KeyboardInterrupt."""
    request = StopRequest(on_first)
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, request) for number in numbers]
    try:
        yield request
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
