"""Lines of a terminal that are rewritten while something grows, also when its window changes in width."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.control import Control
from rich.segment import ControlType, Segment

_SECONDS_BETWEEN_FRAMES = 0.08
# Who sets one of these breaks lines anew when its window gets narrower; others, as xterm, cut them.
_REFLOWING = (
    "TMUX VTE_VERSION KITTY_WINDOW_ID WEZTERM_PANE ALACRITTY_WINDOW_ID WT_SESSION KONSOLE_VERSION "  # noqa: SIM905
    "ITERM_SESSION_ID GHOSTTY_RESOURCES_DIR TERM_PROGRAM".split()
)


class Tail:
    """The last lines of something, as many as are wanted."""

    def __init__(self, renderable: RenderableType, height: int):
        self.renderable = renderable
        self.height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self.renderable, options, pad=False)[-self.height :]:
            yield from line
            yield Segment.line()


class Region:
    """The lines above the cursor that are still rewritten. Nothing is left of them in the end but what was printed."""

    def __init__(self, console: Console):
        self.console = console
        self._widths: list[int] = []  # of the lines that are drawn, in cells
        self._drawn = 0.0

    def draw(self, renderable: RenderableType) -> None:
        """Show this instead, unless the last frame was only just drawn; the end of it, if it does not fit."""
        if time.monotonic() - self._drawn < _SECONDS_BETWEEN_FRAMES:
            return
        lines = self.console.render_lines(renderable, pad=False)[-max(1, self.console.height - 2) :]
        with self.console:  # one write, or it would flicker
            self._wipe()
            self.console.show_cursor(False)
            self.console.print(_Lines(lines), end="")
        self._widths = [Segment.get_line_length(line) for line in lines]
        self._drawn = time.monotonic()

    def print(self, renderable: RenderableType) -> None:
        """Print where the region is, for good."""
        self.close()
        self.console.print(renderable)

    def close(self) -> None:
        """Wipe the region."""
        if self._widths:
            self._wipe()
            self.console.show_cursor(True)
        self._drawn = 0.0

    def _wipe(self) -> None:
        if self._widths:
            rows = min(sum(map(self._rows, self._widths)), self.console.height)
            erase = (ControlType.ERASE_IN_LINE, 2)
            above = [(ControlType.CURSOR_UP, 1), erase] * (rows - 1)
            self.console.control(Control(ControlType.CARRIAGE_RETURN, erase, *above))
        self._widths = []

    def _rows(self, width: int) -> int:
        """How many rows a line takes now that was drawn in a window of perhaps another width."""
        return max(1, -(-width // self.console.width)) if _breaks_lines_anew() else 1


class _Lines:
    """Rendered lines, without a line end behind the last."""

    def __init__(self, lines: Sequence[Sequence[Segment]]):
        self._lines = lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for number, line in enumerate(self._lines):
            if number:
                yield Segment.line()
            yield from line


def _breaks_lines_anew() -> bool:
    return "STY" not in os.environ and any(name in os.environ for name in _REFLOWING)  # STY: within GNU screen
