"""The two streams: answers and JSON on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Literal

from rich.console import Console

Color = Literal["auto", "always", "never"]
Format = Literal["text", "json", "jsonl"]


def write_answer(text: str) -> None:
    """Write a piece of the answer, visible at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_json(value: dict[str, Any] | list[Any]) -> None:
    """Write one line of JSON."""
    write_answer(json.dumps(value, ensure_ascii=False) + "\n")


def prepare_streams() -> None:
    """What an encoding cannot express is shown as `?` instead of ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def stderr_console(color: Color) -> Console:
    """For thinking, progress and notes. Without colour there are no escape codes at all, also no bold or dim."""
    plain = color == "never" or (color == "auto" and (bool(os.environ.get("NO_COLOR")) or not sys.stderr.isatty()))
    return Console(
        file=sys.stderr,
        force_terminal=False if plain else True if color == "always" else None,
        color_system=None if plain else "auto",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def draws(console: Console) -> bool:
    """Whether lines may be rewritten: a real terminal, not dumb, on which escape codes are wanted."""
    return sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal


def size_text(nbytes: int) -> str:
    """Bytes for people: `17.68 GB`, `1.75 MB`."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.2f} MB"
