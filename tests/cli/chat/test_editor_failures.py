"""An editor that leaves something unusable behind, or no room for its file, costs nothing that was typed."""

from __future__ import annotations

import os
import stat
import threading

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import DummyCompleter
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from zaya_cli.chat.line_input import TerminalInput

pytestmark = pytest.mark.skipif(os.name == "nt", reason="an editor as a shell script")
SECONDS_TO_EDIT = 1.0


@pytest.fixture
def typed(monkeypatch, tmp_path, capfd):
    """What is sent after Ctrl-G opened an editor that carries out `script`, and what was said."""

    def typed(keys, script):
        editor = tmp_path / "editor"
        editor.write_text(f"#!/bin/sh\n{script}\n")
        editor.chmod(stat.S_IRWXU)
        monkeypatch.setenv("VISUAL", str(editor))
        with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
            line = TerminalInput(None, DummyCompleter(), lambda: "", has_color=False)
            line._session.app.input = pipe
            pipe.send_bytes(keys + b"\x07")
            enter = threading.Timer(SECONDS_TO_EDIT, pipe.send_bytes, [b"\r"])
            enter.start()
            message = line._prompt()
            enter.join()
        said = capfd.readouterr().err
        assert "Traceback" not in said and "Unexpected" not in said
        return message, said

    return typed


@pytest.mark.processes
def test_a_file_that_is_no_utf_8_leaves_what_was_typed(typed):
    message, said = typed(b"hello", r"printf '\377' > $1")
    assert message == "hello"
    assert "The editor's file is not UTF-8 text" in said


@pytest.mark.processes
def test_half_a_character_can_be_edited(typed):
    assert typed(b"caf\xc3(", 'printf " and tea" >> $1')[0].endswith(" and tea")


def test_without_a_place_for_the_file_that_is_said(typed, monkeypatch):
    def refuse(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    message, said = typed(b"hello", "true")
    assert message == "hello"
    assert "see to TMPDIR" in said
