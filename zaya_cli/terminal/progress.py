"""One line of progress on a terminal, gone before anything else is written."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from zaya_cli.terminal.output import draws, stderr_console
from zaya_cli.terminal.visible import one_line

T = TypeVar("T")

_PAUSE = 0.1  # seconds between two lines of a count


class ProgressLine:
    """On stderr, where lines may be rewritten; nowhere else. Within a `with`, whose end wipes the line away."""

    def __init__(self) -> None:
        self._draws = draws(stderr_console("auto"))
        self._is_shown = False
        self._last = 0.0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Put the text in place of the last one."""
        if self._draws:
            sys.stderr.write(f"\x1b[2K{one_line(text)} ...\r")  # a note that others write covers it
            sys.stderr.flush()
            self._is_shown = True

    def clear(self) -> None:
        """Wipe the line away."""
        if self._is_shown:
            sys.stderr.write("\x1b[2K")
            sys.stderr.flush()
            self._is_shown = False

    def counting(self, text: str) -> Callable[[int, int], None]:
        """What shows the text with (done, of how many)."""

        def show(done: int, total: int) -> None:
            if (now := time.monotonic()) - self._last >= _PAUSE:
                self._last = now
                self.show(f"{text}: {done:,} of {total:,}")

        return show

    def beside(self, things: Iterable[T]) -> Iterator[T]:
        """The things, with the line wiped away before each is handed on."""
        for one in things:
            self.clear()
            yield one
