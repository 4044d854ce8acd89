"""Ctrl-C and SIGTERM as a small state machine: the first asks to stop, the second leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from zaya_cli.terminal.echo import restore_terminal

ENDING = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))  # the latter: the terminal is gone


class StopRequest:
    """Whether, and with which exit code, the person asked to stop."""

    def __init__(self, on_first: Callable[[], None]):
        self.exit_code: int | None = None
        self._on_first = on_first

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.exit_code is not None:
            restore_terminal()
            os._exit(self.exit_code)
        self.exit_code = 128 + number
        self._on_first()


@contextmanager
def stopping(on_first: Callable[[], None]) -> Iterator[StopRequest]:
    """Within the block, the first signal calls `on_first` instead of raising KeyboardInterrupt."""
    request = StopRequest(on_first)
    with _handled((signal.SIGINT, *ENDING), request):
        yield request


@contextmanager
def leaving(leave: Callable[[int], None]) -> Iterator[None]:
    """Within the block, a signal that ends the program calls `leave` with the exit code."""
    with _handled(ENDING, lambda number, frame: leave(128 + number)):
        yield


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Within the block Ctrl-C ends the program, for work by which nothing is lost and which other threads take part in.

    KeyboardInterrupt may leave a lock of an import taken for ever, and a thread that waits for it is waited for.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        restore_terminal()
        os._exit(128 + number)

    with _handled((signal.SIGINT,), leave):
        yield


@contextmanager
def _handled(numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers, nor runs any
        yield
        return
    # What our caller ignores stays ignored: so nohup asks for it, and a script for what it starts in the background.
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = [signal.signal(number, handler) for number in heeded]
    try:
        yield
    finally:
        for number, former in zip(heeded, before, strict=True):
            signal.signal(number, former)
