"""Files as people name them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zaya_cli.chat.pasted_path import pasted_path

NAMES = [
    "plain.txt",
    "with space.txt",
    "quote's.txt",
    'double"quote.txt',
    "per%20cent.txt",
    "umläut é.txt",
    "(1) & [2].txt",
]


def spellings(path):
    """As typed, as shells and file managers write it, and as a browser does."""
    text = str(path)
    escaped = "".join(f"\\{letter}" if letter in " '\"()&[]\\" else letter for letter in text)
    yield from (text, f"  {text} ", escaped, path.as_uri(), path.as_uri().replace("file://", "file://localhost"))
    yield from (f"{quote}{text}{quote}" for quote in "'\"" if quote not in text)


@pytest.mark.skipif(os.name == "nt", reason="backslashes separate folders on Windows, and quotes are in no name")
@pytest.mark.parametrize("name", NAMES)
def test_every_spelling_names_the_file(tmp_path, name):
    path = tmp_path / name
    path.write_text("x")
    assert {pasted_path(spelling) for spelling in spellings(path)} == {path}


def test_the_home_folder_is_known_within_quotes_too(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "a b.txt").write_text("x")
    assert {pasted_path(text) for text in ("~/a b.txt", "'~/a b.txt'", '"~/a b.txt"')} == {tmp_path / "a b.txt"}


def test_a_name_that_exists_as_typed_is_that_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("'quoted'", "quoted"):
        Path(name).write_text(name)
    assert pasted_path("'quoted'").read_text() == "'quoted'"


@pytest.mark.parametrize("text", ["no such", "'open quote", "x" * 5000, "~nobody-has-this-name/x", "file://", "a\0b"])
def test_what_names_nothing_is_a_path_that_does_not_exist(text):
    assert isinstance(pasted_path(text), Path)
