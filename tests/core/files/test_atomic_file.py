"""A file is the old one or the whole new one, whatever happens meanwhile."""

from __future__ import annotations

import os

import pytest

from zaya_core.checkpoint.writer import write_small
from zaya_core.files.atomic_file import replacing
from zaya_core.files.private_file import write_bytes_atomically


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize("write", [write_small, write_bytes_atomically])
def test_what_cannot_be_put_in_place_leaves_the_old_file_and_nothing_else(path, write, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Exception, match="No space"):
        write(path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(path.parent) == ["file"]
    monkeypatch.undo()
    write(path, b"new")
    assert path.read_bytes() == b"new" and os.listdir(path.parent) == ["file"]


def test_the_old_file_stays_until_the_new_one_is_complete(path):
    with replacing(path) as new:
        new.write_bytes(b"half")
        assert path.read_bytes() == b"old" and new.parent == path.parent
        new.write_bytes(b"whole")
    assert path.read_bytes() == b"whole" and not new.exists()
    with pytest.raises(KeyboardInterrupt):
        _interrupted(path)
    assert path.read_bytes() == b"whole" and os.listdir(path.parent) == ["file"]


def _interrupted(path):
    with replacing(path) as new:
        new.write_bytes(b"half")
        raise KeyboardInterrupt
