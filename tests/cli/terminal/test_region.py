"""Lines that are rewritten leave nothing behind."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from zaya_cli.terminal.region import _REFLOWING, Region


@pytest.mark.parametrize(("environment", "rows"), [({"TMUX": "1"}, 5), ({}, 3), ({"TMUX": "1", "STY": "1"}, 3)])
def test_lines_that_a_terminal_broke_anew_are_wiped_as_a_whole(monkeypatch, environment, rows):
    for name in (*_REFLOWING, "STY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=24)
    region = Region(console)
    region.draw("short\n" + "x" * 90 + "\n" + "y" * 60)
    console.width = 50
    out.truncate(out.seek(0))
    region.close()
    assert out.getvalue().count("\x1b[2K") == rows  # lines of 5, 90 and 60 in 50 columns: 1 + 2 + 2
    assert out.getvalue().count("\x1b[1A") == rows - 1
