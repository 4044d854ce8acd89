"""The tiers of the tests: `builds` compile, `processes` start programs, and all others do neither.

`pytest` runs everything but what is marked `long`, which takes minutes and `pytest -m long` runs;
`pytest -m "not builds and not processes"` is the quick tier.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from zaya_core.answers.worker import Worker

MARKS = ("builds", "processes")  # those that take longest first
# What a test does by asking for it.
FIXTURES = {"start": "processes", "built": "builds", "archives": "builds"}
# Python's audit events of a program that begins. `os.exec` is none of them: it follows a fork. There is no event for
# what multiprocessing spawns.
STARTS = {
    "subprocess.Popen",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "_winapi.CreateProcess",
}

_started: list[str] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if event in STARTS:
        _started.append(f"{event}{arguments}"[:300])


sys.addaudithook(_listen)  # there is no way to take it away again
_running = Worker._running


def _noted(worker: Worker) -> subprocess.Popen[str] | None:
    """Who asks the process that an earlier test has started would start it alone."""
    process = _running(worker)
    if process is not None:
        _started.append("the process that compares formulas")
    return process


Worker._running = _noted  # type: ignore[assignment, method-assign]
platform.processor()  # a program tells it, once in each process, and openai asks for it


def pytest_itemcollected(item: pytest.Item) -> None:
    for fixture, mark in FIXTURES.items():
        if fixture in getattr(item, "fixturenames", ()):
            item.add_marker(mark)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files that take long begin first: last, they would leave the other process without work."""
    if "long" not in config.getoption("markexpr"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
    ranks: dict[Path, int] = {}
    for item in items:
        ranks[item.path] = min(_rank(item), ranks.get(item.path, len(MARKS)))
    items.sort(key=lambda item: ranks[item.path])


def _rank(item: pytest.Item) -> int:
    return min((MARKS.index(mark.name) for mark in item.iter_markers() if mark.name in MARKS), default=len(MARKS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    _started.clear()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test without a mark that has started a program, itself or in one of its fixtures."""
    result = yield
    if _started and _rank(item) == len(MARKS):
        pytest.fail(f"A test that starts a program bears the mark `processes` or `builds`: {_started[0]}", False)
    return result
