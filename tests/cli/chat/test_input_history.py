"""What was typed is kept in private, in bounds, and is never the cause of an error."""

from __future__ import annotations

from zaya_cli.chat import input_history
from zaya_cli.chat.input_history import InputHistory


def test_history_is_private_and_skips_lines_that_begin_with_a_space(tmp_path):
    path = tmp_path / "deep" / "history"
    history = InputHistory(path)
    for line in ("one", " secret", "two\nlines"):
        history.store_string(line)
    assert list(InputHistory(path).load_history_strings()) == ["two\nlines", "one"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_history_does_not_grow_without_end_and_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr(input_history, "LARGEST", 2000)
    history = InputHistory(tmp_path / "history")
    for number in range(100):
        history.store_string(f"line {number}")
    kept = list(InputHistory(tmp_path / "history").load_history_strings())
    assert kept == [f"line {number}" for number in range(99, 99 - len(kept), -1)]
    assert 5 < len(kept) < 40


def test_a_history_that_cannot_be_used_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    history = InputHistory(tmp_path / "file" / "history")
    assert history.failure is not None
    assert list(history.load_history_strings()) == []
    history.store_string("hello")
