"""A command reads a folder's `config.json` once, in one place, and hands on what it holds."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

import zaya_cli
from zaya_cli.models import found
from zaya_cli.models.folder import BUNDLED
from zaya_core.files import model_file, model_json

RUN = ("run", "-p", "What is 2+3?", "-n", "2", "--threads", "1")


@pytest.fixture
def reads(monkeypatch):
    """How often the `config.json` of each folder has been read, by the folder's name."""
    counts: Counter[str] = Counter()
    read = model_file.read_model_file

    def counted(path, *limits):
        if path.name == model_json.CONFIG:
            counts[path.parent.name] += 1
        return read(path, *limits)

    monkeypatch.setattr(model_json, "read_model_file", counted)
    return counts


@pytest.fixture
def int4(zaya):
    assert zaya("quantize", "--model", "demo", "--quiet", "--calibrate", "none", "--threads", "1").code == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((*RUN, "--model", "demo"), {"demo": 1}),
        (
            ("run", "-p", "2+3?", "-m", "demo", "--rsa", "2", "--rsa-think", "30", "--rsa-tail", "4", "--seed", "4"),
            {"demo": 1},
        ),
        (("info", "--model", "demo"), {"demo": 1}),
        (("models", "list"), {"demo": 1}),
    ],
)
def test_a_command_reads_a_config_once(zaya, reads, arguments, expected):
    assert zaya(*arguments).code == 0
    assert reads == expected


@pytest.mark.usefixtures("int4")
def test_a_quantized_model_and_its_source_are_read_once_each(zaya, reads):
    assert zaya(*RUN, "--model", "demo", "--quant", "int4").code == 0
    assert reads == {"demo": 1, "demo-int4": 1}


def test_the_model_that_was_chosen_is_read_at_most_twice(zaya, reads, folder, tmp_path):
    (tmp_path / "data/zaya/models").mkdir(parents=True)
    (tmp_path / "data/zaya/models/mine").symlink_to(folder)
    assert zaya(*RUN).code == 0
    assert reads["demo"] == 1 and reads["mine"] <= 2


def test_no_other_module_of_the_command_line_reads_one():
    readers = set()
    for path in Path(zaya_cli.__file__).parent.rglob("*.py"):
        imported = {
            alias.name
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        if imported & {"read_config", "read_json"}:
            readers.add(path.name)
    assert readers == {"found.py"}


def test_what_is_no_object_holds_no_settings(tmp_path):
    (tmp_path / "config.json").write_text("[1]")
    assert found.unchecked_settings(tmp_path / "config.json") == {}


def test_a_server_s_context_is_checked_like_that_of_a_model_here(zaya):
    """Before anything is asked for on the network."""
    result = zaya("run", "-p", "hi", "--model", "demo", "--rsa", "2", "--endpoint", "http://127.0.0.1:9", "--ctx", "1")
    assert (result.code, result.err) == (2, "zaya: --ctx is 1; it must be 2 or more.\n")


@pytest.mark.parametrize("content", ["{}", "[]", "[" * 100_000, '{"max_position_embeddings": true}'])
def test_a_folder_without_a_context_says_what_to_give(zaya, tmp_path, content):
    (tmp_path / "some").mkdir()
    (tmp_path / "some/config.json").write_text(content)
    result = zaya("run", "-p", "hi", "-m", tmp_path / "some", "--rsa", "2", "--endpoint", "http://127.0.0.1:9")
    assert result.code == 5
    assert "give --ctx TOKENS" in result.err


def test_a_found_model_knows_its_weights():
    model = found.FoundModel("demo", BUNDLED / "demo")
    assert model.config is model.config
    assert len(model.folder.fingerprint) == 32
