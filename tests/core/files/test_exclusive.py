"""Laws of lock files: one holder at a time, whatever happens to the file and to the holder."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from zaya_core.errors import NoLocksError, UsageError
from zaya_core.files import exclusive
from zaya_core.files.exclusive import held, holder_of, lock_beside, try_lock

# Takes the lock `turns` times. While it holds it, a directory that only one process can make at a time is there.
WORKER = """
import sys, time
from pathlib import Path
from zaya_core.files.exclusive import try_lock
assert "torch" not in sys.modules
path, turns, removes = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "removes"
witness = path.with_name("witness")
seconds = 0
for turn in range(turns):
    while (lock := try_lock(path)) is None:
        time.sleep(0)
    try:
        witness.mkdir()
    except FileExistsError:
        seconds += 1
    else:
        witness.rmdir()
    if removes and turn % 2:
        lock.release_and_remove()
    else:
        lock.release()
sys.exit(min(seconds, 100))
"""


def taken(path):
    lock = try_lock(path)
    assert lock is not None
    return lock


@pytest.mark.processes
@pytest.mark.parametrize(("way", "turns"), [("stays", 1000), ("removes", 400)])
def test_every_turn_of_four_processes_has_one_holder(tmp_path, way, turns):
    command = [sys.executable, "-c", WORKER, str(tmp_path / "lock"), str(turns // 4), way]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0, 0]
    assert (tmp_path / "lock").exists() or way == "removes"


def test_a_released_lock_file_stays_and_is_private_also_under_an_open_umask(tmp_path):
    before = os.umask(0)
    try:
        lock = taken(tmp_path / "lock")
    finally:
        os.umask(before)
    assert try_lock(tmp_path / "lock") is None
    lock.release()
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
    taken(tmp_path / "lock").release()


def test_a_file_that_its_holder_removed_between_opening_and_locking_does_not_count(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    first = taken(path)
    is_locked = exclusive._is_locked

    def removed_meanwhile(descriptor, path):
        monkeypatch.setattr(exclusive, "_is_locked", is_locked)
        first.release_and_remove()
        return is_locked(descriptor, path)

    monkeypatch.setattr(exclusive, "_is_locked", removed_meanwhile)
    second = taken(path)
    assert os.path.samestat(os.stat(path), os.fstat(second._descriptor))
    assert try_lock(path) is None


@pytest.mark.processes
def test_who_holds_it_is_said_and_the_kill_of_the_holder_frees_it(tmp_path):
    path = tmp_path / "lock"
    program = (
        "import sys, time; from pathlib import Path; from zaya_core.files.exclusive import try_lock;"
        "lock = try_lock(Path(sys.argv[1])); print(flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    with pytest.raises(UsageError, match=rf"^Another zaya is knitting \(process {other.pid}\): wait for it\.$"):
        held(path, "knitting", "wait for it").__enter__()
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    with held(path, "knitting", "wait for it"):
        assert holder_of(path) == f"process {os.getpid()}"


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_a_file_system_without_locks_is_one_sentence(tmp_path, monkeypatch, error):
    def refuse(descriptor, blocking):
        raise error

    monkeypatch.setattr(exclusive, "lock_descriptor", refuse)
    with pytest.raises(NoLocksError, match=r"has no locks \((No locks available|not implemented)\).*local disk\.$"):
        try_lock(tmp_path / "lock")


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "lock").symlink_to("precious")
    with pytest.raises(OSError):
        try_lock(tmp_path / "lock")
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_full_disk_does_not_keep_anybody_from_a_lock(tmp_path, monkeypatch):
    def full(descriptor, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    lock = taken(tmp_path / "lock")
    assert try_lock(tmp_path / "lock") is None
    assert holder_of(tmp_path / "lock") == "its process cannot be seen"
    lock.release()


def test_the_lock_of_a_folder_is_hidden_beside_it(tmp_path):
    assert lock_beside(tmp_path / "out") == tmp_path / ".out.lock"
