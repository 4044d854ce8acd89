"""What the guards read of a request: headers by name, and its path as it may be shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope

HEALTH = frozenset({"/health", "/v1/health"})
_LONGEST_SHOWN = 200  # characters


def header_values(scope: Scope, name: str) -> list[str]:
    """All of this name (in lower case), in their order."""
    wanted = name.encode()
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == wanted]


def shown(text: str) -> str:
    """What a client sent, short enough for a sentence or a line of the log."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
