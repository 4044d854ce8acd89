"""The default number of threads respects what the process may use."""

from __future__ import annotations

import pytest

from zaya_cli import threads


@pytest.mark.parametrize(
    ("content", "quota"), [("max 100000", None), ("200000 100000", 2.0), ("50000 100000", 0.5), ("nonsense", None)]
)
def test_the_control_groups_quota_is_read(tmp_path, content, quota):
    (tmp_path / "cpu.max").write_text(content + "\n")
    assert threads._cgroup_quota(tmp_path) == quota


def test_version_one_of_control_groups_is_read(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert threads._cgroup_quota(tmp_path) is None
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("300000\n")
    assert threads._cgroup_quota(tmp_path) == 3.0


@pytest.mark.parametrize(("quota", "expected"), [(None, 4), (2.0, 2), (0.5, 1), (1.5, 2), (64.0, 4)])
def test_threads_are_physical_cores_within_affinity_and_quota(monkeypatch, quota, expected):
    """Eight logical processors, two on each core."""
    monkeypatch.setattr(threads, "_allowed_cpus", lambda: set(range(8)))
    monkeypatch.setattr(threads, "_core_of", lambda cpu: ("0", str(cpu // 2)))
    monkeypatch.setattr(threads, "_cgroup_quota", lambda root: quota)
    assert threads.default_threads() == expected


def test_affinity_limits_the_threads(monkeypatch):
    monkeypatch.setattr(threads, "_allowed_cpus", lambda: {6, 7})
    monkeypatch.setattr(threads, "_core_of", lambda cpu: ("0", str(cpu // 2)))
    monkeypatch.setattr(threads, "_cgroup_quota", lambda root: None)
    assert threads.default_threads() == 1
