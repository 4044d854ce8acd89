'''Messages of several lines, typed: a trailing backslash adds a line, `"""` opens and closes a block.

A block begins with a first line that has one `"""`, at its start. It ends with the first line that ends in `"""` and up
to which there is an even number of them. So `"""Add docs""" to this` is no block, nor is pasted code that begins with a
docstring.
'''

from __future__ import annotations

_QUOTES = '"""'


def continued(text: str) -> str | None:
    """The text with another line begun, if Enter should not send it yet; None if it should."""
    if _begins_block(text) and _last_line_of_block(text) is None:
        return text + "\n"
    return text[:-1] + "\n" if text.endswith("\\") else None


def message_of(text: str) -> str:
    """The message that was meant: without the quotes of a block."""
    stripped = text.strip()
    lines = stripped.split("\n")
    is_block = _begins_block(text) and _last_line_of_block(text) in (None, len(lines) - 1)
    is_line = len(lines) == 1 and stripped.count(_QUOTES) == 2 and stripped.endswith(_QUOTES)
    if stripped.startswith(_QUOTES) and (is_block or is_line):
        return stripped.removeprefix(_QUOTES).removesuffix(_QUOTES).strip("\n")
    return text


def _begins_block(text: str) -> bool:
    first_line = text.strip().split("\n", 1)[0]
    return first_line.startswith(_QUOTES) and first_line.count(_QUOTES) == 1


def _last_line_of_block(text: str) -> int | None:
    """The number of the line that closes the block which the text begins with; None while it is open."""
    count = 0
    for number, line in enumerate(text.strip().split("\n")):
        count += line.count(_QUOTES)
        if count % 2 == 0 and line.rstrip().endswith(_QUOTES):
            return number
    return None
