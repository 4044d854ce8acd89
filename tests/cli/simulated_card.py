"""A machine with a graphics card that is not there: what this program and PyTorch say of it, in numbers."""

from __future__ import annotations

import pytest

from tests.core.machine.simulated import Card, Machine
from zaya_cli.machine import hardware
from zaya_cli.machine.hardware import Memory

GB, GIB = 10**9, 2**30
DRIVER = 500_000_000  # bytes that the driver and the desktop have of a card


def simulate_card(
    monkeypatch: pytest.MonkeyPatch,
    gib: float,
    name: str = "GeForce",
    capability: tuple[int, int] = (8, 6),
    host: int = 16,
) -> Memory:
    """A card of so many GiB in a host of so many GB, and its memory."""
    card = Card(name, int(gib * GIB), int(gib * GIB) - DRIVER, capability)
    machine = Machine(cards=(card,), main_memory=(host * GB, (host - 4) * GB))
    machine.enter_pytorch(monkeypatch)
    machine.enter_main_memory(monkeypatch)
    monkeypatch.setattr(hardware, "memory_limit", lambda: None)
    return Memory(name, card.total, card.free, card=0)
