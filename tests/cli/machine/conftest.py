"""This process on a machine that nobody has here."""

from __future__ import annotations

import pytest


@pytest.fixture
def entered(monkeypatch, tmp_path):
    """Enter a machine; what is measured there is kept in a folder of the test's."""

    def enter(machine):
        machine.enter(monkeypatch, tmp_path / "root")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    return enter
