"""One line of what `zaya doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """A problem keeps something from working; a note is worth knowing."""

    topic: str
    text: str
    state: State = "ok"
