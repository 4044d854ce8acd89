"""Draw the screen of a real chat as an SVG, for the README: `python -m tests.cli.draw_screen docs/chat.svg`."""

from __future__ import annotations

import io
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.style import Style
from rich.text import Text

from tests.cli.pseudo_terminal import Terminal

QUESTIONS = ("What is 17 + 6 * (9 - 4)?", "And minus 20?")
COLUMNS, LINES = 90, 22


def draw(path: Path) -> None:
    """Ask the bundled model, and save what stands on the screen then, with a completion open."""
    with tempfile.TemporaryDirectory() as home:
        flags = ("--model", "demo", "--seed", "1", "--temperature", "0", "--stats")
        with Terminal("chat", *flags, home=Path(home), columns=COLUMNS, lines=LINES, ZAYA_THREADS="2") as terminal:
            terminal.wait_for_prompt()
            for question in QUESTIONS:
                terminal.ask(question)
            terminal.type("/s")
            terminal.wait_for("/sessions")
            path.write_text(as_svg(terminal.screen), encoding="utf-8")


def as_svg(screen: Any) -> str:
    """The screen with its colours. Dim text is not known to pyte and is drawn as ordinary text."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in range(screen.lines):
        cells = [screen.buffer[line][column] for column in range(screen.columns)]
        text = Text()
        for style, run in groupby(cells, _style):
            text.append("".join(cell.data for cell in run), style)
        console.print(text)
    return console.export_svg(title="zaya chat")


def _style(cell):
    color, background = _color(cell.fg), _color(cell.bg)
    return Style(color=color, bgcolor=background, bold=cell.bold, italic=cell.italics, reverse=cell.reverse)


def _color(name):
    if name == "default":
        return None
    known = {"brown": "yellow"}
    return f"#{name}" if len(name) == 6 and all(c in "0123456789abcdef" for c in name) else known.get(name, name)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
