"""Ctrl-C at any moment of a command ends it in silence: no traceback, and 130, or what it was going to end with."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import zaya_cli
from tests.cli.pseudo_terminal import Terminal
from zaya_cli.models.folder import BUNDLED

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent to one process there"),
]

# It says when Python has found the program; an interrupt before that is Python's own.
PROGRAM = "import os; from zaya_cli.__main__ import main; os.write(1, b'.'); main()"
COMMANDS = [
    ("config", "show"),
    ("doctor", "--no-self-test"),
    ("run", "-p", "1+1", "-m", "demo", "-n", "4"),
    ("models",),
]


def spawned(place, program, *arguments, **settings):
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=place,
        env={**os.environ, "PYTHONPATH": str(Path(zaya_cli.__file__).parents[1]), "HF_HUB_OFFLINE": "1"}, **settings,
    )  # fmt: skip


def started(place, *arguments, **settings):
    process = spawned(place, PROGRAM, *arguments, **settings)
    assert process.stdout.read(1) == b"."
    return process


def ended(process):
    """(exit code, stderr)"""
    _, err = process.communicate(timeout=300)
    return process.returncode, err.decode()


def assert_silent(process, codes, *about):
    code, err = ended(process)
    assert code in codes, (code, err, about)
    assert not any(word in err for word in ("Traceback", "Exception ignored", "Unexpected")), (err, about)


def interrupt(process, seconds):
    """Ctrl-C after so long, unless it has ended before."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.send_signal(signal.SIGINT)


def moments(place, *arguments):
    """Twenty of them, in seconds, spread over as long as the command takes when it is left alone, up to 2 s."""
    process = started(place, *arguments)
    start = time.monotonic()
    assert_silent(process, (0,))
    lasting = min(2.0, time.monotonic() - start)
    return [lasting * (number + 0.2) / 20 for number in range(20)]


@pytest.mark.parametrize("seconds", [0.02, 0.15, 0.6])
def test_an_interrupt_while_the_program_starts_is_silent(tmp_path, seconds):
    process = started(tmp_path, *COMMANDS[2])
    interrupt(process, seconds)
    assert_silent(process, (0, 130), seconds)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_an_interrupt_at_any_moment_is_silent(tmp_path, command):
    for moment in moments(tmp_path, *command):
        process = started(tmp_path, *command)
        interrupt(process, moment)
        assert_silent(process, (0, 130), command, moment)


def test_two_interrupts_are_silent_too(tmp_path):
    for number, moment in enumerate(moments(tmp_path, *COMMANDS[2])):
        process = started(tmp_path, *COMMANDS[2])
        interrupt(process, moment)
        interrupt(process, 0.01 + 0.01 * number)
        assert_silent(process, (0, 130), moment)


def test_an_interrupt_while_exit_handlers_run_leaves_with_the_code_that_was_decided(tmp_path):
    slow = (
        "import atexit, os, time, zaya_cli.app as app; run = app.main\n"
        "app.main = lambda: (atexit.register(lambda: (os.write(2, b'!'), time.sleep(60))), run())\n"
        "from zaya_cli.__main__ import main; main()"
    )
    process = spawned(tmp_path, slow, "config", "path")
    assert process.stderr.read(1) == b"!"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (0, "")


def test_an_interrupt_while_a_model_loads_waits_for_no_thread(tmp_path):
    """One that waits for a lock which the interrupt has left taken would be waited for without an end."""
    stuck = (
        "import os, threading, time, zaya_cli.runtime as runtime\n"
        "runtime._load_tokenizer = lambda found: threading.Event().wait(200)\n"
        "runtime._load_model = lambda *_: (os.write(2, b'!'), time.sleep(200))\n"
        "from zaya_cli.__main__ import main; main()"
    )
    process = spawned(tmp_path, stuck, *COMMANDS[2])
    assert process.stderr.read(1) == b"!"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def test_an_interrupt_inside_of_a_callback_is_not_swallowed(tmp_path):
    """Python prints what a callback raises, and would go on as if nobody had pressed Ctrl-C."""
    hook = (
        "import zaya_cli.commands.config as c, os, time\n"
        "class Slow:\n"
        "    def __del__(self): os.write(2, b'!'); time.sleep(60)\n"
        "c.show_config = lambda *_: Slow() and None\n"
    )
    (tmp_path / "hook.py").write_text(hook)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import hook; " + PROGRAM
    process = spawned(tmp_path, program, "config", "show")
    assert process.stderr.read(1) == b"!"
    process.send_signal(signal.SIGINT)
    assert ended(process) == (130, "")


def test_an_interrupt_that_the_caller_ignores_ends_nothing(tmp_path):
    process = started(tmp_path, "config", "path", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    for _ in range(30):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    assert_silent(process, (0,))


@pytest.mark.parametrize("key", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_leaving_the_question_whether_to_remove_removes_nothing(tmp_path, key):
    folder = tmp_path / "data/zaya/models/mine"
    folder.mkdir(parents=True)
    shutil.copy(BUNDLED / "demo/config.json", folder)
    with Terminal("models", "rm", "mine", home=tmp_path) as screen:
        screen.wait_for("Remove it?")
        screen.press(key)
        screen.wait_for("Nothing was removed.")
        assert screen.wait_for_end() == 130
    assert "Unexpected" not in screen.text
    assert list(folder.iterdir())
