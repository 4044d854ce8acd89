"""What a check has found, in one line for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of a report. A problem keeps something from working; a note is worth knowing."""

    topic: str
    text: str
    state: State = "ok"
