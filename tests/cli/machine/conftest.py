"""This process on a machine that nobody has here."""

from __future__ import annotations

import pytest

from zaya_core.kernels import card_choice
from zaya_core.machine.kernel_verdict import Verdict

GOOD = Verdict(True, worst=3e-4, graphs=True, seconds=21.0, day="2026-11-30")


@pytest.fixture
def entered(monkeypatch, tmp_path):
    """Enter a machine, whose card has passed the check of zaya's kernels; what is measured there is kept in a folder of
    the test's."""
    monkeypatch.setattr(card_choice, "kept_verdict", lambda gpu: GOOD)

    def enter(machine):
        machine.enter(monkeypatch, tmp_path / "root")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    return enter
