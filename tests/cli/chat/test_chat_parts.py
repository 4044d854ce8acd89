"""The small parts of the chat, each alone."""

from __future__ import annotations

import errno
import io
import re

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from zaya_cli.chat import input_history
from zaya_cli.chat.input_history import InputHistory
from zaya_cli.chat.multiline import continued, message_of
from zaya_cli.chat.view import DrawnView
from zaya_cli.terminal.markdown import complete_length, rendered
from zaya_cli.terminal.region import _REFLOWING, Region
from zaya_core.engine.events import TextEvent, ThinkingEnded, TokenEvent
from zaya_core.files.private_file import write_atomically


def shown(text, width=60):
    out = io.StringIO()
    Console(file=out, width=width).print(rendered(text))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "The result is \\boxed{47}.",
        "\\(a_1 * b_2 * c_3\\) and \\[ x * y * z \\]",
        "$$ a_1 _b_ $$",
        "List<T> has <b>no</b> tags & x < y",
        "17+6*(9-4)\n9-4=5\n17+30=47",
    ],
)
def test_what_a_model_writes_stays_readable_as_it_is(text):
    assert shown(text) == text


def test_markdown_is_rendered():
    assert shown("**bold** and `code`\n\n- one\n- two") == "bold and code\n\n • one\n • two"
    assert "def f(x):" in shown("```python\ndef f(x):\n    return x * 2 * 3\n```")
    assert "x * 2 * 3" in shown("```python\ndef f(x):\n    return x * 2 * 3\n```")


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["word", "\n", "\n\n", "- item", "1. ", "```", "| a |", "# h", "  ", "**"]), max_size=30)
)
def test_only_whole_blocks_before_the_last_are_complete(pieces):
    text = "".join(pieces)
    length = complete_length(text)
    assert length == 0 or text[length - 1] == "\n"
    assert text[length:].strip() or not text.strip() or length == 0


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


@pytest.mark.parametrize(
    ("text", "longer"),
    [
        ("hello", None),
        ("hello\\", "hello\n"),
        ("cmd \\\n --flag", None),
        ('"""', '"""\n'),
        ('"""a\nb', '"""a\nb\n'),
        ('"""a\nb"""', None),
        ('""""""', None),
        ('"""Add docs""" to this', None),
        ('"""\ndef f():\n    """Doc."""', '"""\ndef f():\n    """Doc."""\n'),
        ('"""\nDoc.\n"""\nimport os', None),
        ('"""Doc."""\nimport os', None),
        ('"""a """ b\nc"""', None),
        ('say """ here', None),
    ],
)
def test_enter_adds_a_line_while_a_message_is_open(text, longer):
    assert continued(text) == longer


def test_the_marks_of_a_block_are_not_part_of_the_message():
    assert message_of('"""\na\n\nb\n"""') == "a\n\nb"
    assert message_of('"""a"""') == "a"
    for text in (
        'say """ here',
        '"""Add docs""" to this',
        '"""Doc."""\nimport os\nx = """y"""',
        '"""\nA\n"""\nimport os',
    ):
        assert message_of(text) == text


def test_history_is_private_and_skips_lines_that_begin_with_a_space(tmp_path):
    path = tmp_path / "deep" / "history"
    history = InputHistory(path)
    for line in ("one", " secret", "two\nlines"):
        history.store_string(line)
    assert list(InputHistory(path).load_history_strings()) == ["two\nlines", "one"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_history_does_not_grow_without_end_and_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr(input_history, "LARGEST", 2000)
    history = InputHistory(tmp_path / "history")
    for number in range(100):
        history.store_string(f"line {number}")
    kept = list(InputHistory(tmp_path / "history").load_history_strings())
    assert kept == [f"line {number}" for number in range(99, 99 - len(kept), -1)]
    assert 5 < len(kept) < 40


def test_a_history_that_cannot_be_used_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    history = InputHistory(tmp_path / "file" / "history")
    assert history.failure is not None
    assert list(history.load_history_strings()) == []
    history.store_string("hello")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(new):
        new.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, fail)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("file", "old")]
