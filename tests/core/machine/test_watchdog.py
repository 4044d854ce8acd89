"""Where Windows stops what keeps a card busy, prompts are computed in short chunks."""

from __future__ import annotations

import pytest
import torch

from tests.core.machine.simulated import WSL, Machine
from zaya_core.machine.watchdog import prefill_chunk


@pytest.mark.parametrize(
    ("machine", "device", "chunk"),
    [
        (Machine(), "cuda:0", 1024),
        (Machine("win32"), "cuda:1", 256),
        (Machine("win32"), "cpu", 1024),
        (Machine(files=WSL), "cuda:0", 256),
        (Machine(files=WSL), "cpu", 1024),
        (Machine("darwin"), "cuda:0", 1024),
    ],
)
def test_chunks_are_short_for_cards_of_windows_alone(monkeypatch, tmp_path, machine, device, chunk):
    machine.enter(monkeypatch, tmp_path)
    assert prefill_chunk(torch.device(device), 1024) == chunk
    assert prefill_chunk(torch.device(device), 64) == 64
