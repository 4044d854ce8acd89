"""The choices of an answer: one request each, equal but for their random numbers."""

from __future__ import annotations

from dataclasses import replace

from zaya_core.engine.request import Request


def choices_of(request: Request, n: int) -> list[Request]:
    """n of them, each with random numbers of its own under the same seed. Their prompt is computed once."""
    return [replace(request, candidate=candidate) for candidate in range(n)]
