"""Keys of the chat at each moment, on a real pseudo-terminal."""

from __future__ import annotations

import json
import time

import pytest

from tests.cli.pseudo_terminal import Terminal

pytestmark = pytest.mark.processes

TALK = ("-n", "5", "--thinking", "off", "--seed", "1")


@pytest.fixture
def talk(talking_folder, tmp_path):
    """A chat with a model that says a few random words."""

    def start(**settings):
        return Terminal("chat", "--model", talking_folder, *TALK, home=tmp_path, **settings)

    return start


def questions(home):
    paths = sorted((home / "data" / "zaya" / "sessions").glob("*.json"))
    return [exchange["question"] for path in paths for exchange in json.loads(path.read_text())["exchanges"]]


def leave(terminal):
    terminal.wait_for_prompt()
    terminal.press("\x04")
    assert terminal.wait_for_end() == 0


WAYS_OUT = {"\r": "first words", "\x1b": "first words", "\x1b[C": "first words", "\x03": "", "\x07": "", "\x04": ""}


def test_every_way_out_of_a_search_leaves_a_prompt_that_works(talk, tmp_path):
    with talk() as terminal:
        terminal.wait_for_prompt()
        for text in ("first words", "second words"):
            terminal.ask(text)
        for key, left in WAYS_OUT.items():
            terminal.press("\x12first")
            terminal.wait_until(
                lambda: "I-search backward: first" in terminal.text and prompts(terminal)[-1:] == ["first words"]
            )
            terminal.press(key)
            terminal.wait_until(lambda left=left: terminal.cursor_line == f">>> {left}".rstrip())
            assert "I-search" not in "\n".join(terminal.screen.display)
            if left:
                terminal.press("\x03")
                terminal.wait_for_prompt()
        terminal.ask("third words")
        leave(terminal)
    assert questions(tmp_path) == ["first words", "second words", "third words"]


def prompts(terminal):
    return [line.removeprefix(">>>").strip() for line in terminal.lines if line.startswith(">>>")]


def test_what_is_typed_before_the_prompt_is_one_message_that_nobody_sends(talk, tmp_path):
    with talk() as terminal:
        terminal.wait_for("loading the model")
        terminal.press("line one\nline two\n\x04line three\n")
        terminal.wait_until(lambda: terminal.cursor_line == "... line three")
        assert "line one" in terminal.text
        assert questions(tmp_path) == []
        terminal.press("\r")
        terminal.wait_until(lambda: questions(tmp_path) == ["line one\nline two\nline three"])
        leave(terminal)


def test_what_is_typed_during_an_answer_is_neither_shown_in_it_nor_sent(endless_folder, tmp_path):
    with Terminal("chat", "--model", endless_folder, "--thinking", "off", home=tmp_path) as terminal:
        terminal.wait_for_prompt()
        terminal.send("hello")
        terminal.wait_for("the the the")
        terminal.press("typed ahead\rsecond x\x7fline\r")
        time.sleep(0.5)
        assert "typed" not in terminal.text
        terminal.press("\x03")
        terminal.wait_until(lambda: terminal.cursor_line == "... second line")
        assert ">>> typed ahead" in terminal.text
        assert questions(tmp_path) == ["hello"]


def test_a_resize_while_the_model_thinks_leaves_one_frame_and_what_stood_above(endless_folder, tmp_path):
    with Terminal("chat", "--model", endless_folder, home=tmp_path) as terminal:
        terminal.wait_for_prompt()
        terminal.send("hello")
        terminal.wait_for("the the the")
        for columns in (60, 30, 90):
            terminal.resize(columns, 24)
            seen = len(terminal.raw)
            terminal.wait_until(lambda seen=seen: len(terminal.raw) > seen + 5000)  # some frames
            assert terminal.lines.count("thinking") == 1
            assert ">>> hello" in terminal.lines
        terminal.press("\x03")
        terminal.wait_for("[stopped]")


def test_what_looks_like_a_block_or_an_enter_but_is_none_is_the_message(talk, tmp_path):
    with talk(EDITOR="no-such-editor --wait") as terminal:
        terminal.wait_for_prompt()
        terminal.ask('"""Add docs""" to this')
        terminal.press("one\rtwo\rthree\r")  # a paste without brackets
        terminal.wait_until(lambda: ">>> one" in terminal.text and "... three" in terminal.text)
        assert questions(tmp_path) == ['"""Add docs""" to this']
        terminal.press("\x03")
        terminal.wait_for_prompt()
        assert "EDITOR names the editor no-such-editor" in terminal.ask("/edit").replace("\n", " ")
        terminal.press("\x07")  # Ctrl-G
        terminal.wait_until(lambda: terminal.text.count("names the editor no-such-editor") == 2)
        leave(terminal)


def test_an_edit_that_is_given_up_changes_nothing(talk, tmp_path):
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nexit 1\n")
    editor.chmod(0o700)
    with talk(EDITOR=str(editor)) as terminal:
        terminal.wait_for_prompt()
        terminal.ask("hello")
        for ending in ("\x03\x03", "\x03\x04"):
            terminal.send("/edit")
            terminal.wait_until(lambda: terminal.cursor_line == ">>> hello")
            for key in ending:
                terminal.press(key)
                time.sleep(0.1)
            terminal.wait_for_prompt()
        assert terminal.text.count("Nothing was changed.") == 2
        assert "Unexpected" not in terminal.text
        leave(terminal)
    assert questions(tmp_path) == ["hello"]


def test_completions_leave_room_for_what_is_typed_in_a_low_window(talk):
    with talk(columns=20, lines=6) as terminal:
        terminal.wait_for_prompt()
        terminal.press("/re")
        terminal.wait_until(lambda: "regen" in terminal.text)
        assert "too small" not in terminal.text
        terminal.press("\x03")
        leave(terminal)


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_letters_beyond_ascii_reach_the_model_under_an_ascii_locale(talk, tmp_path, term):
    with talk(TERM=term, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LANG="C") as terminal:
        terminal.wait_for_prompt()
        terminal.press("你好 5+7\r")
        terminal.wait_until(lambda: term == "dumb" or questions(tmp_path))
        terminal.wait_for_prompt()
        terminal.press("/save said\r")
        terminal.wait_for("Saved as said")
    assert "你好 5+7" in questions(tmp_path)
