"""A file as people name it: typed, dragged into the terminal or copied from a file manager or a browser."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from zaya_cli.user_files import from_home


def pasted_path(text: str) -> Path:
    """The file that is meant: what the text says literally if that exists, else without quotes and escapes, or of a
    `file://` address. `~` is the home folder. Where nothing exists, the likeliest reading."""
    readings = list(_readings(text.strip()))
    return next((path for path in readings if _exists(path)), readings[-1])


def _readings(text: str) -> Iterator[Path]:
    yield from_home(text)
    if (unescaped := _unescaped(text)) is not None:
        text = unescaped
        yield from_home(text)
    if text.lower().startswith("file:"):
        yield Path(url2pathname(urlsplit(text).path))


def _unescaped(text: str) -> str | None:
    """What a shell would make of it; None if that is not one word. A backslash separates folders on Windows."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, ""
    if os.name == "nt":
        lexer.escape = ""
    try:
        words = list(lexer)
    except ValueError:  # a quote that is not closed
        return None
    return words[0] if len(words) == 1 else None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, a zero byte
        return False
