"""Text as encoders take it."""

from __future__ import annotations


def without_surrogates(text: str) -> str:
    """JSON may hold half a surrogate pair, which no encoder takes: whole pairs are joined, halves are U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
