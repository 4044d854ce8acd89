"""A server among many clients, for a few seconds, and one that nobody asks."""

from __future__ import annotations

import time

import psutil
import pytest

pytest.importorskip("uvicorn", reason="the serve extra is not installed")

from benchmarks.served import ServerProcess
from benchmarks.soak import soak
from benchmarks.soak_traffic import CLASSES

pytestmark = pytest.mark.processes


def test_nothing_is_lost_wrong_or_kept_under_load(monkeypatch):
    monkeypatch.setitem(CLASSES, "too long", 0)  # once, before the load: a megabyte of text takes a second of a core
    record = soak("demo", seconds=6, clients=8)
    assert not record.broken
    assert all(record.seconds[name] for name in ("streamed", "whole", "left", "damaged"))


def test_an_idle_server_uses_no_processor_time():
    with ServerProcess("demo", "--device", "cpu") as server:
        process = psutil.Process(server.pid)
        time.sleep(0.5)
        before = process.cpu_times()
        time.sleep(2)
        after = process.cpu_times()
    assert after.user + after.system - before.user - before.system <= 0.1
