"""The default number of threads respects what the process may use."""

from __future__ import annotations

import pytest

from zaya_cli.machine import threads


@pytest.mark.parametrize(("quota", "expected"), [(None, 4), (2.0, 2), (0.5, 1), (1.5, 2), (64.0, 4)])
def test_threads_are_physical_cores_within_affinity_and_quota(monkeypatch, quota, expected):
    """Eight logical processors, two on each core."""
    monkeypatch.setattr(threads, "_allowed_cpus", lambda: set(range(8)))
    monkeypatch.setattr(threads, "_core_of", lambda cpu: ("0", str(cpu // 2)))
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert threads.default_threads() == expected


def test_affinity_limits_the_threads(monkeypatch):
    monkeypatch.setattr(threads, "_allowed_cpus", lambda: {6, 7})
    monkeypatch.setattr(threads, "_core_of", lambda cpu: ("0", str(cpu // 2)))
    monkeypatch.setattr(threads, "cpu_quota", lambda: None)
    assert threads.default_threads() == 1
