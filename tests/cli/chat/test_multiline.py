"""Messages of several lines."""

from __future__ import annotations

import pytest

from zaya_cli.chat.multiline import continued, message_of


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
