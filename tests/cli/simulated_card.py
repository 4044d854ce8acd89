"""A machine with a graphics card that is not there: what this program and PyTorch say of it, in numbers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

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
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *_: name)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *_: capability)
    total = int(gib * GIB)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda *_: SimpleNamespace(total_memory=total))
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda *_: (total - DRIVER, total))
    monkeypatch.setattr("torch.cuda.get_arch_list", list)
    monkeypatch.setattr("torch.version.hip", None)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=host * GB, available=(host - 4) * GB))
    monkeypatch.setattr(hardware, "memory_limit", lambda: None)
    return Memory(name, total, total - DRIVER, card=0)
