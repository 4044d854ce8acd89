"""Markdown on a terminal: rendered, and what is none stays readable."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from zaya_cli.terminal.markdown import complete_length, rendered


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
