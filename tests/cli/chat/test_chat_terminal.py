"""`zaya chat` as a person uses it, on a real pseudo-terminal. No text of a model is asserted."""

from __future__ import annotations

import json
import os
import re
import signal
import sys

import pytest

from tests.cli.pseudo_terminal import Terminal

pytestmark = pytest.mark.processes

DEMO = ("chat", "--model", "demo", "--seed", "1", "-n", "40")
ESCAPE = b"\x1b"


def sessions(home):
    return sorted((home / "data" / "zaya" / "sessions").glob("*.json"))


def saved(home):
    (path,) = sessions(home)
    return json.loads(path.read_text())


def reused(text):
    return [int(count.replace(",", "")) for count in re.findall(r"\(([\d,]+) reused", text)]


def test_three_turns_a_paste_and_the_same_conversation_in_a_new_process(tmp_path):
    with Terminal(*DEMO, "--stats", home=tmp_path, columns=250) as terminal:
        terminal.wait_for_prompt()
        terminal.ask("What is 17 + 6?")
        terminal.ask("and 8 * 3?")
        terminal.press("\x1b[200~pasted line one\nline two: 4 + 4?\x1b[201~")
        terminal.wait_for("... line two")
        terminal.press("\r")
        terminal.wait_for_prompt()
        exchanges = saved(tmp_path)["exchanges"]
        assert [exchange["question"] for exchange in exchanges] == [
            "What is 17 + 6?",
            "and 8 * 3?",
            "pasted line one\nline two: 4 + 4?",
        ]
        assert "thought for" in terminal.text
        assert "/undoo is not a command; did you mean /undo?" in terminal.ask("/undoo")
        assert "Saved as sums: 3 questions" in terminal.ask("/save sums")
        known = len(saved_ids(tmp_path, "sums"))
        terminal.press("\x04")
        assert terminal.wait_for_end() == 0
    files = [*tmp_path.rglob("*.json"), *tmp_path.rglob("*.safetensors"), *tmp_path.rglob("history")]
    assert len(files) == 5
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}

    with Terminal(*DEMO, "--stats", home=tmp_path, columns=250) as terminal:
        terminal.wait_for_prompt()
        terminal.press("\x1b[A")  # the arrow up: history
        terminal.wait_until(lambda: terminal.cursor_line == ">>> /save sums")
        terminal.press("\x03")
        terminal.wait_for_prompt()
        assert "line two: 4 + 4?" in terminal.ask("/load sums")
        terminal.ask("and now?")
        (from_file,) = reused(terminal.text)
        assert 0 < from_file < known
        terminal.press("\x04")
        assert terminal.wait_for_end() == 0


def saved_ids(home, name):
    return json.loads((home / "data" / "zaya" / "sessions" / f"{name}.json").read_text())["known_ids"]


def test_ctrl_c_in_every_state(endless_folder, tmp_path):
    large = tmp_path / "large.txt"
    large.write_text("the cat sat on the mat " * 12_000)
    with Terminal("chat", "--model", endless_folder, home=tmp_path) as terminal:
        terminal.wait_for_prompt()
        terminal.send("hello")
        terminal.wait_for("the the the")
        terminal.press("\x03")
        terminal.wait_for("[stopped]")
        assert "thought for" in terminal.text  # it was still thinking
        terminal.wait_for_prompt()
        terminal.ask("/think off")
        terminal.send("good morning")
        terminal.wait_until(lambda: "the the the" in terminal.text)
        terminal.press("\x03")
        terminal.wait_until(lambda: terminal.text.count("[stopped]") == 2)
        terminal.wait_for_prompt()
        kept = saved(tmp_path)["exchanges"]
        assert [exchange["reason"] for exchange in kept] == ["cancelled"] * 2
        assert kept[0]["thinking"].startswith(" the the")
        assert kept[1]["answer"].startswith(" the the")

        terminal.ask(f"/file {large}")
        terminal.send("summarise")
        terminal.wait_for("reading the prompt")
        terminal.press("\x03")
        terminal.wait_until(lambda: terminal.text.count("[stopped]") == 3)
        terminal.wait_for_prompt()
        assert saved(tmp_path)["exchanges"] == kept

        terminal.type("half a thought")
        terminal.press("\x03")
        terminal.wait_for_prompt()
        terminal.press("\x03")
        terminal.wait_for("Ctrl-C again, or Ctrl-D, leaves.")
        terminal.wait_for_prompt()
        terminal.press("\x03")
        assert terminal.wait_for_end() == 130
    assert b"Traceback" not in terminal.raw


def test_ctrl_c_while_loading_leaves_with_130(tmp_path):
    (tmp_path / "torch.py").write_text("import time; time.sleep(3600)")  # loading takes for ever
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with Terminal(*DEMO, home=tmp_path, PYTHONPATH=path) as terminal:
        terminal.wait_for("loading the model")
        terminal.press("\x03")
        assert terminal.wait_for_end() == 130
    assert b"Traceback" not in terminal.raw


def test_a_narrow_terminal_shows_everything(tmp_path):
    with Terminal(*DEMO, home=tmp_path, columns=24, lines=10) as terminal:
        terminal.wait_for_prompt()
        terminal.ask("What is 1 + 1? " * 4)
        terminal.ask("/help")
        answer = saved(tmp_path)["exchanges"][0]["answer"]
        assert re.sub(r"\s", "", answer) in re.sub(r"\s", "", terminal.text)
        assert "leave" in terminal.text


def test_no_color_has_no_colour_and_still_edits_lines(tmp_path):
    with Terminal(*DEMO, home=tmp_path, NO_COLOR="1") as terminal:
        terminal.wait_for_prompt()
        terminal.ask("What is 1 + 1?")
        assert "thinking:" in terminal.text
        assert "thought for" in terminal.text
        terminal.press("\x04")
        assert terminal.wait_for_end() == 0
    colours = re.findall(rb"\x1b\[(?:3[0-8]|4[0-8]|9[0-7]|10[0-7]|2|1)m", terminal.raw)
    assert not colours


def test_a_dumb_terminal_without_utf_8_gets_no_escape_code_and_no_question_marks(tmp_path):
    settings = {"TERM": "dumb", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    with Terminal(*DEMO, home=tmp_path, **settings) as terminal:
        terminal.wait_for_prompt()
        terminal.ask("What is 1 + 1?")
        terminal.press("\x03")
        terminal.wait_for("Ctrl-C again")
        terminal.wait_for_prompt()
        terminal.press("\x04")
        assert terminal.wait_for_end() == 0
    assert ESCAPE not in terminal.raw
    assert "demo - bfloat16" in terminal.text
    assert terminal.raw.isascii()


def test_the_editor_the_clipboard_and_resume(endless_folder, tmp_path):
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "from the editor, %s" "$(cat "$1")" > "$1.new" && mv "$1.new" "$1"\n')
    editor.chmod(0o700)
    flags = ("chat", "--model", endless_folder, "--thinking", "off", "-n", "5")
    with Terminal(*flags, home=tmp_path, EDITOR=str(editor)) as terminal:
        terminal.wait_for_prompt()
        terminal.ask("hello")
        terminal.send("/edit")
        terminal.wait_for("from the editor, hello")
        terminal.wait_for_prompt()
        assert [exchange["question"] for exchange in saved(tmp_path)["exchanges"]] == ["from the editor, hello"]
        terminal.type("second")
        terminal.press("\x07")  # Ctrl-G
        terminal.wait_until(lambda: terminal.cursor_line == ">>> from the editor, second")
        terminal.press("\r")
        terminal.wait_until(lambda: len(saved(tmp_path)["exchanges"]) == 2)
        terminal.wait_for_prompt()
        terminal.ask("/continue")
        terminal.wait_until(lambda: len(saved(tmp_path)["exchanges"][1]["tokens"]) == 10)
        if "OSC 52" in terminal.ask("/copy"):  # else this machine has a clipboard
            assert b"\x1b]52;c;" in terminal.raw
        terminal.press("\x04")
        assert terminal.wait_for_end() == 0
    with Terminal(*flags, "--resume", "--stats", home=tmp_path, columns=250) as terminal:
        terminal.wait_for_prompt()
        assert "2 questions and answers" in terminal.text
        assert ">>> from the editor, second" in terminal.lines
        known = len(saved(tmp_path)["known_ids"])
        terminal.ask("/continue")
        assert reused(terminal.text) == [known - 1]  # the last token was chosen, not computed
        assert len(saved(tmp_path)["exchanges"][1]["tokens"]) == 15


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_the_prompt_keeps_the_conversation_and_restores_the_terminal(tmp_path, number):
    with Terminal(*DEMO, home=tmp_path) as terminal:
        terminal.wait_for_prompt()
        terminal.ask("What is 1 + 1?")
        terminal.kill(number)
        assert terminal.wait_for_end() == 128 + number
    assert terminal.raw.rstrip().endswith(b"\x1b[?2004l") or b"\x1b[?2004l" in terminal.raw[-80:]
    assert len(saved(tmp_path)["exchanges"]) == 1


def test_what_was_answered_survives_sigkill_and_damaged_files_do_not_stop_the_program(endless_folder, tmp_path):
    with Terminal("chat", "--model", endless_folder, "-n", "5", home=tmp_path) as terminal:
        terminal.wait_for_prompt()
        terminal.ask("first")
        terminal.ask("/set max_tokens off")
        terminal.send("second")
        terminal.wait_for("the the the")
        terminal.kill()
        assert terminal.wait_for_end() == -signal.SIGKILL
    assert [exchange["question"] for exchange in saved(tmp_path)["exchanges"]] == ["first"]

    (tmp_path / "state" / "zaya" / "history").write_bytes(b"\xff\x00+\xfe broken\n+\n\n#\n")
    damaged = sessions(tmp_path)[0].with_name("newer.json")
    damaged.write_text('{"zaya_session": 1, "exchanges": [{"question": 7}]}')
    os.utime(sessions(tmp_path)[0], (1, 1))
    with Terminal("chat", "--model", endless_folder, "-n", "5", "--resume", home=tmp_path) as terminal:
        terminal.wait_for_prompt()
        assert "is damaged" in terminal.text.replace("\n", " ")
        assert "newer" in terminal.ask("/sessions")
        terminal.ask("third")
        terminal.press("\x04")
        assert terminal.wait_for_end() == 0
    assert damaged.read_text() == '{"zaya_session": 1, "exchanges": [{"question": 7}]}'
    questions = {json.loads(path.read_text())["exchanges"][0]["question"] for path in sessions(tmp_path)}
    assert questions == {"first", "third", 7}
