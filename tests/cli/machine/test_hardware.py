"""The memory that a process may use, with and without a control group."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from zaya_cli.machine import hardware

GB = 10**9


@pytest.fixture(autouse=True)
def system(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=64 * GB, available=40 * GB))


@pytest.mark.parametrize(
    ("limit", "total", "free"),
    [
        (None, 64, 40),
        ((16 * GB, 10 * GB), 16, 10),
        ((60 * GB, 54 * GB), 60, 40),
        ((128 * GB, 122 * GB), 64, 40),
        ((4 * GB, 0), 4, 0),
    ],
)
def test_a_control_group_limits_the_memory(monkeypatch, limit, total, free):
    monkeypatch.setattr(hardware, "memory_limit", lambda: limit)
    memory = hardware.system_memory()
    assert (memory.total, memory.free) == (total * GB, free * GB)


def test_free_disk_is_that_of_the_nearest_folder_that_exists(tmp_path):
    assert hardware.free_disk(tmp_path / "not/yet/there") > 0
