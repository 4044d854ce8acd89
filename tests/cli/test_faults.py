"""Every command driven through every fault of its borders: one sentence that blames the right thing, and its code."""

from __future__ import annotations

import errno
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import zaya_cli
from tests.cli.conftest import Result
from zaya_cli.failures import EXIT_CODES, exit_code_of, sentence_of
from zaya_cli.models.folder import BUNDLED
from zaya_cli.system_errors import system_sentence
from zaya_core.errors import MissingFileError, UsageError
from zaya_core.files.bounded_file import read_at_most, read_file

LONG = "a" * 300
RUN = ("run", "-m", "demo", "-n", "1")
RSA = ("run", "-p", "1+1", "-m", "demo", "--rsa", "2")
IS_POSIX = os.name == "posix"

# Each path of the border: what it is, and the words that name the fault. Made by `faults`.
FILES = {
    "missing": (3, "does not exist"),
    "missing_folder/x": (3, "does not exist"),
    "dangling": (3, "does not exist"),
    "folder": (2, "Is a directory"),
    "file/x": (2, "Not a directory"),
    "loop": (2, "Too many levels of symbolic links"),
    LONG: (2, "File name too long"),
    "latin": (2, "not UTF-8"),
    "~nobody_of_this_name/x": (3, "does not exist"),
    "/dev/zero": (2, "has more than"),
    "socket": (2, "cannot be read"),
}
READERS = {
    "run FILE": lambda path: ("run", path, "-m", "demo"),
    "run -p FILE": lambda path: ("run", path, "-p", "x", "-m", "demo"),
    "--rsa-prompt": lambda path: (*RSA, "--rsa-prompt", path),
    "--calibrate": lambda path: ("quantize", "-m", "demo", "--dense", "int4", "-o", "made", "--calibrate", path),
}
FOLDERS = {"file": "", "file/x": "", "loop": "", "loop/x": "", LONG: "File name too long", "dangling/x": ""}
WRITERS = {
    "--out": lambda path: ("quantize", "-m", "demo", "--format", "int8", "-o", path),
    "--rsa-save": lambda path: (*RSA, "--rsa-save", path),
}
HOMES = ["missing", "file/x", "loop", LONG]
OF_HOMES = [
    (*RUN, "-p", "1+1"), ("models",), ("models", "verify"), ("models", "rm", "nothing", "--yes"), ("config", "show"),
    ("config", "path"), ("completion", "bash"), ("info", "-m", "demo"), ("doctor", "--no-self-test"),
    ("chat", "-m", "demo"), ("run", "-p", "1+1"), ("quantize", "-m", "demo", "--format", "int8", "-q"),
    ("pull", "--dry-run"),
]  # fmt: skip


@pytest.fixture
def faults(tmp_path):
    """A working folder with one thing wrong of each kind."""
    if not IS_POSIX:
        pytest.skip("no such files there")
    import socket

    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as one:
        before = os.getcwd()
        os.chdir(tmp_path)  # its name has a limit of 108 bytes
        one.bind("socket")
        os.chdir(before)
    return tmp_path


def assert_told(result, codes):
    assert result.code in codes, result
    assert result.code in EXIT_CODES
    for word in ("Traceback", "Unexpected", "Errno"):
        assert word not in result.out + result.err, result
    if result.code not in (0, 1):
        assert result.err.splitlines()[-1].startswith("zaya: ")


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path[:20])
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(zaya, reader, path):
    code, words = FILES[path]
    result = zaya(*READERS[reader](path))
    assert_told(result, {code})
    assert words in result.err
    assert path in result.err


@pytest.mark.usefixtures("faults")
@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: path[:20])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_that_cannot_be_written_is_named_with_the_reason(zaya, writer, path):
    result = zaya(*WRITERS[writer](path))
    assert_told(result, {2})
    assert path.split("/")[0] in result.err
    assert FOLDERS[path] in result.err


@pytest.mark.parametrize("path", [path for path in FILES if path != "latin"], ids=lambda path: path[:20])
@pytest.mark.usefixtures("faults")
def test_a_model_that_is_no_folder_is_named(zaya, path):
    for command in (("run", "-p", "x"), ("info",), ("quantize", "-o", "made")):
        result = zaya(*command, "-m", path)
        assert_told(result, {2, 3, 5})
        assert path in result.err


@pytest.mark.parametrize("home", HOMES, ids=lambda home: home[:10])
@pytest.mark.parametrize("command", OF_HOMES, ids=lambda command: " ".join(command[:2]))
def test_homes_that_cannot_be_used_end_no_command_unexpectedly(zaya, faults, monkeypatch, command, home):
    """All of XDG_*_HOME and the hub's cache at once: what a command does not need it does without."""
    place = str(faults / home)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for kind in ("STATE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", place)
    assert_told(zaya(*command), {0, 1, 2, 3, 4, 7})


@pytest.mark.parametrize("path", [*FILES, "file"], ids=lambda path: path[:20])
@pytest.mark.usefixtures("faults")
def test_a_settings_file_that_cannot_be_read_is_named(zaya, monkeypatch, path):
    monkeypatch.setenv("ZAYA_CONFIG", path)
    for command in (("config", "show"), (*RUN, "-p", "1+1")):
        result = zaya(*command)
        assert_told(result, {2})
        assert path in result.err


@pytest.mark.parametrize(
    "content", ['model = "a\\u0000b"', 'system = "\\u0000"', 'model = "~x\\u001b"', 'model = ""', 'color = "auto"']
)
def test_texts_of_a_settings_file_are_refused_or_used(zaya, monkeypatch, tmp_path, content):
    (tmp_path / "config.toml").write_text(content)
    monkeypatch.setenv("ZAYA_CONFIG", str(tmp_path / "config.toml"))
    assert_told(zaya("run", "-p", "1+1", "-n", "1"), {2, 3})


@pytest.mark.parametrize("text", [b"\xff", b"a\x00b", b"\xed\xa0\x80", "\ufeff1+1".encode()])
def test_whatever_is_piped_in_is_asked_or_refused(zaya, text):
    assert_told(zaya(*RUN, piped=text), {0, 2})


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8 cannot be made there")
def test_a_model_folder_whose_name_is_no_utf_8_is_not_called_damaged(zaya, tmp_path):
    folder = os.fsdecode(b"m\xff")
    shutil.copytree(BUNDLED / "demo", tmp_path / folder)
    for command in ((*RUN, "-p", "x", "-m", folder), ("info", folder), ("quantize", "-m", "demo", "-o", folder + "o")):
        result = zaya(*command)
        assert_told(result, {2})
        assert "m<0xFF>" in result.err and "is no UTF-8 name" in result.err


REFUSED = [number for number in sorted(errno.errorcode) if number not in (errno.EPIPE, errno.EINTR)]


@pytest.mark.parametrize("number", REFUSED, ids=lambda number: errno.errorcode[number])
def test_whatever_the_system_refuses_is_told_with_the_name_and_without_unexpected(number):
    """As root nothing is forbidden: permissions, disks and quotas can be tried by their numbers alone."""
    error = OSError(number, os.strerror(number), "/some/where/file")
    said, code = sentence_of(error), exit_code_of(error)
    assert "Unexpected" not in said
    assert code in (1, 2, 3, 4, 7)
    assert "/some/where" in said or code in (4, 7)
    assert "Unexpected" not in sentence_of(OSError(number, os.strerror(number)))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.EACCES, "Permission denied", "/x"), 2, "/x cannot be used (Permission denied)"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), 2, "give a place that can be written"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 4, "/x cannot be written"),
        (OSError(errno.EMFILE, "Too many open files", "/x"), 4, "ulimit -n"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 4, "Out of memory"),
        (MemoryError(), 4, "Out of memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 4, "Out of memory"),
        (RuntimeError("can't start new thread"), 4, "ulimit -u"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), 7, "network"),
        (OSError(errno.EIO, "Input/output error", "/x"), 1, "the disk that it lies on"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "/none/x"), 3, "there is no folder /none"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found"), 3, "No usable temporary directory"),
    ],
)
def test_each_kind_of_refusal_has_its_code_and_says_what_to_do(error, code, words):
    assert exit_code_of(error) == code
    assert words in sentence_of(error)


def test_a_bug_stays_unexpected():
    for bug in (KeyError("x"), ValueError("x"), RuntimeError("x"), OSError("without a number"), AssertionError()):
        assert system_sentence(bug) is None
        assert sentence_of(bug).startswith("Unexpected ")
        assert exit_code_of(bug) == 1


def test_a_file_is_read_up_to_its_limit_and_not_beyond(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(UsageError, match="has more than 4 bytes"):
        read_file(path, 4)
    with pytest.raises(UsageError, match="not the name of a file"):
        read_file(Path("a\0b"), 4)
    with pytest.raises(MissingFileError):
        read_file(tmp_path / "none", 4)


def test_a_stream_is_read_up_to_its_limit_and_not_beyond():
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size=-1):
            given = min(size, 1000)
            self.taken += given
            return b"y" * given

    endless = Endless()
    with pytest.raises(UsageError, match="Standard input has more than 2,500 bytes"):
        read_at_most(endless, 2500, "Standard input")  # type: ignore[arg-type]
    assert endless.taken == 2501


def process(place, arguments, limits="", **streams):
    """A command under `limits` of the shell."""
    line = f'{limits}; exec "$0" -m zaya_cli "$@"'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, *arguments], capture_output="stdout" not in streams, cwd=place, timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(zaya_cli.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
        **{"stdin": subprocess.DEVNULL, **streams},
    )  # fmt: skip
    return Result(done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode())


@pytest.mark.processes
@pytest.mark.skipif(not IS_POSIX, reason="a shell's limits")
@pytest.mark.parametrize(
    ("limits", "arguments", "codes"),
    [
        ("ulimit -n 12", ("config", "show"), {0, 4}),
        ("ulimit -f 0", ("quantize", "-m", "demo", "--format", "int8", "-o", "made"), {4}),
        ("mkdir gone; cd gone; rmdir ../gone", (*RUN, "-p", "1+1"), {3}),
        ("mkdir gone; cd gone; rmdir ../gone", ("config", "path"), {0}),
        ("unset HOME", ("config", "path"), {0}),
    ],
    ids=["files", "size", "folder gone", "folder gone, not needed", "no home"],
)
def test_limits_of_the_shell_are_told(tmp_path, limits, arguments, codes):
    assert_told(process(tmp_path, arguments, limits), codes)


@pytest.mark.processes
@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no endless file here")
def test_endless_standard_input_is_refused_at_its_limit(tmp_path):
    with open("/dev/zero", "rb") as endless:
        result = process(tmp_path, RUN, "ulimit -v 4000000", stdin=endless)
    assert_told(result, {2})
    assert "Standard input has more than 67,108,864 bytes" in result.err


@pytest.mark.processes
@pytest.mark.skipif(not IS_POSIX, reason="a shell's limits")
@pytest.mark.parametrize("limit", ["ulimit -n 8", "ulimit -n 20", "ulimit -v 2500000", "ulimit -f 0"])
@pytest.mark.parametrize(
    "arguments", [(*RUN, "-p", "1+1"), RSA, ("quantize", "-m", "demo", "-o", "made"), ("doctor",), ("models",)],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_tight_limits_end_no_command_unexpectedly(tmp_path, limit, arguments):
    assert_told(process(tmp_path, arguments, limit), {0, 1, 2, 4})
