"""A test that starts a program without saying so fails, whichever way it starts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[1]
WAYS = """
import os, pty, subprocess, sys
import pytest
from zaya_core.answers.worker import Worker

END = [sys.executable, "-S", "-c", ""]
WAYS = {
    "subprocess": lambda: subprocess.run(END),
    "system": lambda: os.system("true"),
    "spawn": lambda: os.posix_spawn(END[0], END, os.environ),
    "fork": lambda: os.fork() or os._exit(0),
    "terminal": lambda: pty.fork()[0] or os._exit(0),
    "comparison": lambda: Worker("print('ready')").ask("ab"),
    "swallowed": lambda: pytest.raises(SystemExit, lambda: sys.exit(subprocess.run(END).returncode)),
}

@pytest.fixture
def starts_one():
    subprocess.run(END)

@pytest.mark.parametrize("way", WAYS)
def test_unmarked(way):
    WAYS[way]()

def test_unmarked_fixture(starts_one):
    pass

@pytest.mark.parametrize("way", WAYS)
@pytest.mark.processes
def test_marked(way):
    WAYS[way]()

@pytest.mark.builds
def test_marked_fixture(starts_one):
    pass

def test_none():
    pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no fork there")
def test_a_test_that_starts_a_program_without_a_mark_fails(tmp_path):
    (tmp_path / "test_ways.py").write_text(WAYS)
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # quicker
    marks = "markers=builds\n processes"
    command = [sys.executable, "-m", "pytest", "-p", "tests.tiers", "-p", "no:cacheprovider", "-o", marks, "-rE", "-q"]
    done = subprocess.run(
        [*command, "-c", "/dev/null", str(tmp_path)], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    failed = {line.split("::")[1].split(" ")[0] for line in done.stdout.splitlines() if line.startswith("ERROR ")}
    names = ("subprocess", "system", "spawn", "fork", "terminal", "comparison", "swallowed")
    assert failed == {*(f"test_unmarked[{way}]" for way in names), "test_unmarked_fixture"}, done.stdout
    assert "17 passed, 8 errors" in done.stdout


@pytest.mark.parametrize(("asked", "ran"), [([], "1 passed, 1 deselected"), (["-m", "long"], "1 passed, 1 deselected")])
def test_what_takes_minutes_runs_only_when_it_is_asked_for(tmp_path, asked, ran):
    (tmp_path / "test_both.py").write_text(
        "import pytest\n@pytest.mark.long\n"
        "def test_slow(request):\n    assert request.config.option.markexpr == 'long'\n"
        "def test_quick(request):\n    assert not request.config.option.markexpr\n"
    )
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    marks = "markers=builds\n processes\n long"
    command = [sys.executable, "-m", "pytest", "-p", "tests.tiers", "-p", "no:cacheprovider", "-o", marks, *asked]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, env=environment | {"PYTEST_ADDOPTS": ""},
                          capture_output=True, text=True)  # fmt: skip
    assert ran in done.stdout, done.stdout + done.stderr
