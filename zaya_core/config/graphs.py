"""Whether a card replays a decode step as a recorded graph, or its kernels are launched one by one."""

from __future__ import annotations

from typing import Literal, get_args

from zaya_core.errors import UsageError

Graphs = Literal["auto", "on", "off"]


def expect_graphs(graphs: str) -> None:
    """Raises UsageError for what is not offered."""
    if graphs not in (known := get_args(Graphs)):
        raise UsageError(f"graphs {graphs!r} is not offered: use {', '.join(known[:-1])} or {known[-1]}.")
