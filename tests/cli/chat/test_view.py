"""An answer on the screen, as it comes."""

from __future__ import annotations

import io
import re

import pyte
import pytest
from rich.console import Console

from tests.cli.terminal.test_markdown import shown
from zaya_cli.chat.view import DrawnView
from zaya_core.engine.events import TextEvent, ThinkingEnded, TokenEvent


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_blocks_appear_once_whatever_the_pieces(monkeypatch, size):
    text = "# Title\n\nfirst paragraph\n\n1. one\n\n2. two\n\n```\ncode\n\nmore code\n```\n\nlast words"
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout", out)
    for name, value in {"COLUMNS": "60", "LINES": "50", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    with DrawnView(Console(file=io.StringIO(), force_terminal=True), "show") as view:
        for start in range(0, len(text), size):
            view.show(TextEvent(0, "answer", text[start : start + size]))
    screen = pyte.Screen(60, 50)
    pyte.Stream(screen).feed(out.getvalue().replace("\n", "\r\n"))
    lines = [line.rstrip() for line in screen.display if line.strip()]
    assert lines == [line for line in shown(text).splitlines() if line.strip()]


def _without_codes(text):
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.mark.parametrize("ends", [True, False])
def test_thinking_folds_into_one_line_also_when_it_was_stopped(ends):
    out = io.StringIO()
    with DrawnView(Console(file=out, force_terminal=True, width=40), "show") as view:
        for word in ("first ", "second ", "third "):
            view.show(TokenEvent(0, 5, 0.0))
            view.show(TextEvent(0, "thinking", word))
        if ends:
            view.show(ThinkingEnded(0, 3, 1.5))
    assert _without_codes(out.getvalue()).count("thought for") == 1
    assert ", 3 tokens" in _without_codes(out.getvalue())
