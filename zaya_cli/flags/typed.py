"""Numbers and switches as people type them: what a flag takes for one, a variable and a slash command do, too."""

from __future__ import annotations

from typing import Any

NEEDED = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}  # in words


def typed(kind: type, text: str) -> Any:
    """The text as one of the types in NEEDED, by the library that Typer converts flags with. Raises ValueError."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_python(text)
