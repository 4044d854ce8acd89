"""`/save PATH.json` and `/load PATH.json`: for a conversation that cannot be kept where conversations are kept."""

from __future__ import annotations

import json

import pytest

CHAT = ("chat", "-m", "demo", "--seed", "1", "-n", "4", "--thinking", "off")


@pytest.fixture
def chat(zaya):
    def chat(*lines):
        result = zaya(*CHAT, piped="".join(f"{line}\n" for line in lines))
        assert result.code == 0
        assert "Unexpected" not in result.err
        return result.err

    return chat


def questions(path):
    return [one["question"] for one in json.loads(path.read_text())["exchanges"]]


def test_a_conversation_goes_into_a_file_and_comes_back(chat, tmp_path):
    (tmp_path / "my files").mkdir()
    said = chat("1+1", "/save ./my files/a.json", "2+2", "/save ./my files/a.json")
    assert said.count("Saved in my files/a.json") == 2
    said = chat('/load "./my files/a.json"', "3+3", "/save ./b.json")
    assert "a.json: 2 questions and answers. It is read again with the next question." in said
    assert questions(tmp_path / "b.json") == ["1+1", "2+2", "3+3"]


def test_a_home_folder_is_understood(chat, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    chat("1+1", "/save ~/a.json")
    assert questions(tmp_path / "a.json") == ["1+1"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/save ./taken.json", "taken.json exists already: give another name"),
        ("/save ./none/a.json", "There is no folder none"),
        ("/save ./a.txt", "as a file it must end in .json"),
        ("/save /dev/null/a.json", "There is no folder /dev/null"),
        ("/save ./" + "a" * 300 + ".json", "File name too long"),
        ("/load ./missing.json", "missing.json does not exist"),
        ("/load ./taken.json", "is damaged or of another version"),
        ("/load ./folder.json", "folder.json cannot be read: Is a directory"),
        ("/load file:///a%00b.json", "is not the name of a file"),
        ("/save file:///a%00b.json", "is not the name of a file"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence_and_harms_nothing(chat, tmp_path, line, words):
    (tmp_path / "taken.json").write_text("mine")
    (tmp_path / "folder.json").mkdir()
    said = chat("1+1", line, "/save ./after.json")
    assert words in said
    assert (tmp_path / "taken.json").read_text() == "mine"
    assert questions(tmp_path / "after.json") == ["1+1"]


def test_where_nothing_can_be_kept_a_path_is_offered(chat, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/dev/null/data")
    said = chat("1+1", "/save x", "/save ./a.json")
    assert "could not be saved (Not a directory)" in said
    assert "/save PATH.json" in said
    assert questions(tmp_path / "a.json") == ["1+1"]


def test_an_edited_session_is_read_again_and_that_is_said(chat, tmp_path):
    chat("1+1", "/save name")
    path = tmp_path / "data/zaya/sessions/name.json"
    path.write_text(path.read_text().replace("1+1", "1+2"))
    said = chat("/load name", "/save ./a.json")
    assert "It was changed by hand or damaged: its texts are used" in said
    assert "tokens of it are ready" not in said
    assert questions(tmp_path / "a.json") == ["1+2"]
