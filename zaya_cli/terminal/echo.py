"""The terminal's echo of what is typed, off while nobody reads it: it would land in the middle of an answer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_switch_on: Callable[[], None] | None = None  # while it is off


@contextmanager
def without_echo() -> Iterator[None]:
    """Within the block keys are not echoed and wait for the next reader; those that send a signal still do."""
    global _switch_on
    outer, _switch_on = _switch_on, _switched_off()
    try:
        yield
    finally:
        restore_echo()
        _switch_on = outer


def restore_echo() -> None:
    """Echo again; by itself for a program that ends in the middle of a block."""
    if _switch_on is not None:
        _switch_on()


def restore_terminal() -> None:
    """For a program that ends in the middle of whatever it shows: echo and cursor on, colours off, a new line."""
    restore_echo()
    sys.stderr.write("\x1b[0m\x1b[?25h\n" if sys.stderr.isatty() else "\n")
    sys.stderr.flush()


def _switched_off() -> Callable[[], None] | None:
    """Switch it off. What switches it on again; None where there is no terminal to do so on."""
    try:
        import termios
    except ImportError:  # Windows: its console echoes only what somebody reads
        return None

    def set_attributes(attributes: list[int | list[bytes | int]]) -> None:
        termios.tcsetattr(terminal, termios.TCSANOW, attributes)

    try:
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
        silent = termios.tcgetattr(terminal)
        silent[3] &= ~(termios.ECHO | termios.ICANON)
        silent[3] |= termios.NOFLSH  # Ctrl-C stops an answer, and what was typed ahead stays
        set_attributes(silent)
    except (OSError, ValueError, termios.error):
        return None
    return lambda: set_attributes(before)
