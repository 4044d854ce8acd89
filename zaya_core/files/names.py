"""Names that come out of files, made fit for messages."""

from __future__ import annotations

from collections.abc import Sequence

_LISTED_AT_MOST = 50


def printable(name: str) -> str:
    """A name from a file, without what could steer a terminal, and not endless."""
    name = name if name.isprintable() else ascii(name)
    return name if len(name) <= 240 else f"{name[:240]}..."


def listed(names: Sequence[str]) -> str:
    """Names from a file for a message: sorted, fit for a terminal, at most fifty."""
    shown = ", ".join(printable(name) for name in sorted(names)[:_LISTED_AT_MOST])
    return shown if len(names) <= _LISTED_AT_MOST else f"{shown}, and {len(names) - _LISTED_AT_MOST} more"
