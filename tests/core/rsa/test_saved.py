"""The file of a run's state: whole at every moment, and never another run's."""

from __future__ import annotations

import json

import pytest

from zaya_core.errors import DiskSpaceError, UsageError
from zaya_core.rsa.rollouts import Rollout
from zaya_core.rsa.saved import restore_rollouts, save_rollouts, saved_seed

IDENTITY = {"seed": 5, "messages": [{"role": "user", "content": "é?"}], "settings": {"candidates": 2}}
ROLLOUTS = [Rollout(0, 0, (), 5, "done", tail="é", mean_logprob=-0.1234567890123), Rollout(1, 0, (0, 1), 5, "cut")]


def test_what_was_saved_comes_back(tmp_path):
    path = tmp_path / "new" / "rsa.json"
    assert restore_rollouts(path, IDENTITY) == []
    assert saved_seed(path) is None
    save_rollouts(path, IDENTITY, ROLLOUTS)
    assert restore_rollouts(path, IDENTITY) == ROLLOUTS
    assert saved_seed(path) == 5
    assert [file.name for file in path.parent.iterdir()] == ["rsa.json"]


@pytest.mark.parametrize("key", list(IDENTITY))
def test_another_run_s_file_is_refused_by_what_differs(tmp_path, key):
    path = tmp_path / "rsa.json"
    save_rollouts(path, IDENTITY, ROLLOUTS)
    with pytest.raises(UsageError, match=key):
        restore_rollouts(path, {**IDENTITY, key: "other"})


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"version": 99}', '{"version": 1, "identity": {}, "rollouts": []}', "\x00", "nonsense"]
)
def test_a_damaged_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "rsa.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"rsa\.json"):
        restore_rollouts(path, IDENTITY)


@pytest.mark.parametrize("damage", [{"stage": 0}, {"unknown": 1}, 5])
def test_a_damaged_rollout_is_one_sentence(tmp_path, damage):
    path = tmp_path / "rsa.json"
    save_rollouts(path, IDENTITY, ROLLOUTS)
    value = json.loads(path.read_text())
    value["rollouts"] = [damage]
    path.write_text(json.dumps(value))
    with pytest.raises(UsageError, match="damaged"):
        restore_rollouts(path, IDENTITY)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        save_rollouts(tmp_path / "file" / "rsa.json", IDENTITY, ROLLOUTS)


def test_writing_again_replaces_the_file_at_once(tmp_path, monkeypatch):
    path = tmp_path / "rsa.json"
    save_rollouts(path, IDENTITY, ROLLOUTS[:1])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskSpaceError, match="No space left"):
        save_rollouts(path, IDENTITY, ROLLOUTS)
    assert restore_rollouts(path, IDENTITY) == ROLLOUTS[:1]
