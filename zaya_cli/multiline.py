'''Messages of several lines, typed: a trailing backslash adds a line, `"""` opens and closes a block.'''

from __future__ import annotations

_QUOTES = '"""'


def continued(text: str) -> str | None:
    """The text with another line begun, if Enter should not send it yet; None if it should."""
    stripped = text.strip()
    is_open = stripped.startswith(_QUOTES) and (stripped == _QUOTES or not stripped.endswith(_QUOTES))
    if is_open:
        return text + "\n"
    return text[:-1] + "\n" if text.endswith("\\") else None


def message_of(text: str) -> str:
    """The message that was meant: without the quotes of a block."""
    stripped = text.strip()
    if stripped.startswith(_QUOTES):
        return stripped.removeprefix(_QUOTES).removesuffix(_QUOTES).strip("\n")
    return text
