"""Each row of the table of exit codes: code, one sentence, and stdout byte for byte."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import zaya_cli
from tests.cli.conftest import Result
from zaya_cli.failures import EXIT_CODES

CONTEXT_OF_DEMO = 4096
ASK = ["run", "-p", "What is 2 + 3?", "-m", "demo", "-t", "0", "--thinking", "off", "--device", "cpu"]

# (exit code, arguments, changes of the environment, words of the sentence)
ROWS = [
    (0, ASK, {}, ""),
    (0, [*ASK, "-n", "1"], {}, "was cut at its length limit"),
    (2, ["run", "-p", " "], {}, "nothing to ask"),
    (2, [*ASK, "--top-p", "7"], {}, "top_p"),
    (2, ASK, {"ZAYA_CONFIG": "damaged.toml"}, "damaged.toml"),
    (3, ["run", "-p", "x", "-m", "nowhere"], {}, "no folder nowhere"),
    (3, ["run", "missing.txt"], {}, "does not exist"),
    (5, ["run", "-p", "x", "-m", "llama"], {}, "llama"),
    (6, ["run", "-p", "one two three four " * CONTEXT_OF_DEMO, "-m", "demo"], {}, f"{CONTEXT_OF_DEMO:,}"),
]
OF_PROCESSES = [
    (1, ["run", "-p", "x"], {"BROKEN": "1"}, "ZAYA_DEBUG=1"),
    (2, ASK, {"ZAYA_KERNELS": "magic"}, "ZAYA_KERNELS"),
    (3, ["pull"], {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE"),
    (4, ["run", "-p", "x", "-m", "demo", "--device", "cuda"], {"CUDA_VISIBLE_DEVICES": "-1"}, "sees no GPU"),
    (7, ["pull"], {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot be reached"),
]


@pytest.fixture
def place(tmp_path):
    """A working folder with something wrong of each kind."""
    (tmp_path / "damaged.toml").write_text("seed = ")
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama/config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('BROKEN'):\n"
        "    import zaya_cli.commands.run\n"
        "    def broken(*_): raise KeyError('nobody foresaw this')\n"
        "    zaya_cli.commands.run.collect_prompts = broken\n"
    )
    return tmp_path


def assert_row(code, words, result):
    assert result.code == code, result.err
    assert words in result.err
    assert "Traceback" not in result.err
    if code:
        assert result.out == ""
        assert result.err.startswith("zaya: ")
        assert result.err.count("\n") == 1
        assert result.err.endswith(".\n")


@pytest.mark.parametrize(("code", "arguments", "changes", "words"), ROWS, ids=[f"{r[0]} {r[3][:24]}" for r in ROWS])
def test_an_outcome_has_its_code_and_its_sentence(zaya, place, monkeypatch, code, arguments, changes, words):
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert_row(code, words, zaya(*arguments))


@pytest.mark.processes
@pytest.mark.parametrize(
    ("code", "arguments", "changes", "words"), OF_PROCESSES, ids=[f"{r[0]} {r[3][:24]}" for r in OF_PROCESSES]
)
def test_an_outcome_of_a_process_has_its_code_and_its_sentence(place, code, arguments, changes, words):
    process = zaya_process(place, arguments, changes)
    out, err = (stream.decode() for stream in process.communicate(timeout=300))
    assert_row(code, words, Result(process.returncode, out, err))


def python_path(*folders):
    """So that the program is found from another working folder, and a sitecustomize.py in one of `folders`."""
    return os.pathsep.join([*map(str, folders), str(Path(zaya_cli.__file__).parents[1])])


def zaya_process(place, arguments, changes, preexec_fn=None):
    return subprocess.Popen(
        [sys.executable, "-m", "zaya_cli.app", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, cwd=place,
        env={**os.environ, "PYTHONPATH": python_path(place), **changes}, preexec_fn=preexec_fn,
    )  # fmt: skip


def signalled(place, number, *flags, preexec_fn=None):
    """(exit code, stderr) of an answer that a signal reaches.

    Tokens drawn almost evenly end it once in 768 times: it goes on until it is stopped, or cut at its limit.
    """
    noise = ["-t", "1000", "--top-p", "1", "--min-p", "0", "--seed", "1"]
    arguments = ["run", "-p", "x", "-m", "demo", "--thinking", "stderr", *flags, *noise]
    process = zaya_process(place, arguments, {}, preexec_fn)
    assert process.stderr is not None
    process.stderr.read(1)  # thinking has begun
    assert process.poll() is None
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    return process.returncode, err


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_an_answer_has_its_code(place, number):
    code, err = signalled(place, number)
    assert code == 128 + number
    assert b"Traceback" not in err


@pytest.mark.processes
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_the_caller_ignores_ends_nothing(place, number):
    """As under nohup, or in the background of a script."""
    code, err = signalled(place, number, "-n", "1000", preexec_fn=lambda: signal.signal(number, signal.SIG_IGN))
    assert code == 0, err


def test_every_code_of_the_table_has_a_row_here():
    signals = {129, 130, 143}
    assert {row[0] for row in (*ROWS, *OF_PROCESSES)} | signals == set(EXIT_CODES)


@pytest.mark.processes
def test_stdout_is_the_answer_byte_for_byte_when_piped(zaya, place):
    text = json.loads(zaya(*ASK, "--format", "json").out)["text"]
    quoted = " ".join(f"'{argument}'" for argument in ASK)
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -m zaya_cli.app {quoted} --stats 2>/dev/null | cat"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": python_path(), "TERM": "xterm-256color"},
    )
    assert done.stdout == text.encode() + (b"" if text.endswith("\n") else b"\n")
    assert done.stderr == b""


@pytest.mark.processes
def test_a_reader_that_has_gone_is_1_without_words(place):
    process = zaya_process(place, ["models"], {})
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=300) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""


@pytest.mark.processes
@pytest.mark.parametrize(
    ("streams", "answer"), [("<&- 2>&-", b"\\boxed{5}\n"), (">&-", b""), ("0>/dev/null", b"\\boxed{5}\n")]
)
def test_a_closed_stream_is_empty_or_takes_everything(place, streams, answer):
    """The last is what nohup makes of a terminal: a standard input open for writing alone."""
    question = "-p 'What is 2 + 3?' -m demo --device cpu -t 0 --thinking hide"
    done = subprocess.run(
        ["sh", "-c", f"exec '{sys.executable}' -m zaya_cli.app run {question} {streams}"],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=300, cwd=place,
        env={**os.environ, "PYTHONPATH": python_path()},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, answer, b"")
