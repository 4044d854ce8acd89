"""A server from its start to its end: it listens while it loads, lets answers end when a signal comes, and says how it
ended."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.cli.serve.program import ROOT, START, Program, ask, chat, close, events, first_text

pytest.importorskip("uvicorn", reason="the serve extra is not installed")
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(os.name == "nt", reason="signals cannot be sent to one process there"),
]

SLOW = "import time, zaya_cli.runtime as r; r._load_model = lambda *_: time.sleep(60)\n" + START
ENDLESS = 90_000
EITHER = [pytest.param(signal.SIGTERM, id="SIGTERM"), pytest.param(signal.SIGINT, marks=pytest.mark.long, id="SIGINT")]


@pytest.fixture
def started(tmp_path, endless_folder):
    """Start a server of a model that says ` the` until its context is full: (program, port)."""
    programs = []

    def start(*arguments, **environment):
        program = Program(tmp_path, "-m", endless_folder, *arguments, **environment).__enter__()
        programs.append(program)
        return program, program.port()

    yield start
    for program in programs:
        program.__exit__()
        assert not any(word in program.err for word in ("Traceback", "Unexpected", "Exception ignored")), program.err


def ended(program):
    """The exit code; nothing came on stdout."""
    code, out = program.end()
    assert out == ""
    return code


def refused(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def becomes(condition, seconds=10):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


@pytest.mark.parametrize("number", EITHER)
def test_a_server_with_nothing_to_do_takes_no_processor_time_and_ends_at_once_with_0(started, number):
    program, port = started()
    assert ask(port).read() == b'{"status":"ok"}'
    line = program.wait_for(" is served at ")
    assert "rows of" in line and "computed by" in line and "without a key" in line
    before = os.times(), cpu_ticks(program.process.pid)
    time.sleep(1)
    assert cpu_ticks(program.process.pid) - before[1] <= 1
    program.signal(number)
    assert ended(program) == 0
    assert refused(port)


def cpu_ticks(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    except FileNotFoundError:
        pytest.skip("this system does not tell processor times of a process there")


def test_running_answers_end_waiting_ones_are_refused_and_nobody_else_comes_in(started):
    program, port = started("--rows", "1")
    idle = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    ask(port, connection=idle).read()
    running = chat(port, 400)
    first_text(running)
    waiting: list = []
    asking = threading.Thread(target=lambda: waiting.append(chat(port, 10, stream=False)))
    asking.start()
    assert becomes(lambda: b'"waiting"' in ask(port, "/slots").read())
    program.signal(signal.SIGTERM)
    assert becomes(lambda: refused(port))
    asking.join(30)
    assert waiting[0].status == 503
    assert waiting[0].headers["retry-after"]
    assert b"server_shutdown" in waiting[0].read()
    *_, last, done = events(running)
    assert done == "[DONE]"
    assert last["choices"][0]["finish_reason"] == "length"
    assert ended(program) == 0
    assert "one answer may end within 30 s" in program.err


@pytest.mark.parametrize("number", EITHER)
def test_answers_that_take_too_long_end_with_an_error_in_their_stream(started, number):
    program, port = started("--drain", "0.3")
    responses = [chat(port, ENDLESS, text=text) for text in "ab"]
    for response in responses:
        first_text(response)
    program.signal(number)
    for response in responses:
        *_, last = events(response)
        assert last["error"]["code"] == "server_shutdown"
    assert ended(program) == 128 + number


def test_a_killed_client_frees_its_row_and_a_second_signal_ends_the_program_at_once(started):
    program, port = started("--drain", "600", "--rows", "1")
    killed = chat(port, ENDLESS)
    first_text(killed)
    assert b'"running"' in ask(port, "/slots").read()
    close(killed)
    assert becomes(lambda: b'"running"' not in ask(port, "/slots").read(), 5)
    response = chat(port, ENDLESS)
    first_text(response)
    program.signal(signal.SIGTERM)
    program.wait_for("may end within 600 s")
    program.signal(signal.SIGINT)
    assert ended(program) == 128 + signal.SIGTERM  # the first one says how it ended
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        response.read()


@pytest.mark.parametrize("number", EITHER)
def test_while_the_model_loads_clients_are_told_so_and_a_signal_ends_the_program(tmp_path, number):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Program(tmp_path, "-m", "demo", "--port", port, start=SLOW) as program:
        assert becomes(lambda: not refused(port), 30)
        response = ask(port)
        assert (response.status, response.read()) == (503, b'{"status": "loading"}')
        response = chat(port, 10)
        assert response.status == 503
        assert response.headers["retry-after"]
        assert b'"loading"' in response.read()
        program.signal(number)
        code, out = program.end()
    assert (code, out) == (128 + number, "")
    assert "Traceback" not in program.err


def test_a_model_that_cannot_be_loaded_ends_the_program_with_its_sentence(tmp_path):
    with Program(tmp_path, "-m", "no/such-model") as program:
        code, out = program.end()
    assert (code, out) == (3, "")
    assert "Traceback" not in program.err
    assert len(program.notes) == 1


BROKEN = """
import zaya_core.engine.engine as e
from zaya_core.errors import CheckpointError
def broken(engine):
    raise CheckpointError("the weights are damaged")
e.Engine.step = broken
"""


def test_a_model_that_can_compute_no_more_ends_the_program_with_1(tmp_path):
    with Program(tmp_path, "-m", "demo", start=BROKEN + START) as program:
        response = chat(program.port(), 10, stream=False)
        assert response.status == 500
        assert b"server_error" in response.read()
        code, out = program.end()
    assert (code, out) == (1, "")
    assert "can compute no more" in program.notes[-1]
    assert "Traceback" not in program.err


def test_only_a_server_imports_what_the_extra_brings():
    code = "import sys, zaya_cli.app; sys.exit(bool({'starlette', 'uvicorn', 'h11'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
