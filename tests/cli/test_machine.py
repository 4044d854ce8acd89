"""The memory that a process may use, with and without a control group."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from zaya_cli import machine

GB = 10**9


@pytest.fixture(autouse=True)
def system(monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=64 * GB, available=40 * GB))


def limited(folder, limit, used, cached, names=("memory.max", "memory.current")):
    folder.mkdir(exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(
        f"anon {used - cached}\nactive_file {cached // 2}\ninactive_file {cached // 2}\n"
    )


@pytest.mark.parametrize(
    ("limit", "used", "cached", "total", "free"),
    [
        ("max", 0, 0, 64, 40),
        (16 * GB, 6 * GB, 0, 16, 10),
        (16 * GB, 6 * GB, 4 * GB, 16, 14),
        (60 * GB, 6 * GB, 0, 60, 40),
        (128 * GB, 6 * GB, 0, 64, 40),
        (4 * GB, 5 * GB, 0, 4, 0),
    ],
)
def test_a_control_group_limits_the_memory(tmp_path, monkeypatch, limit, used, cached, total, free):
    limited(tmp_path, limit, used, cached)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    memory = machine.system_memory()
    assert (memory.total, memory.free) == (total * GB, free * GB)


def test_version_one_of_control_groups_is_read(tmp_path, monkeypatch):
    limited(tmp_path / "memory", 8 * GB, 2 * GB, 0, ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert machine.system_memory().total == 8 * GB
    (tmp_path / "memory/memory.limit_in_bytes").write_text(str((1 << 63) - 4096))
    assert machine.system_memory().total == 64 * GB


def test_without_a_control_group_it_is_the_systems(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path / "none")
    assert machine.system_memory() == machine.Memory("main memory", 64 * GB, 40 * GB)


def test_free_disk_is_that_of_the_nearest_folder_that_exists(tmp_path):
    assert machine.free_disk(tmp_path / "not/yet/there") > 0
