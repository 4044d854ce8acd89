"""`zaya run` on damaged and hostile folders: an exit code, one line on stderr, nothing on stdout, nothing written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.core.broken_folders import FIRST, FOLDERS, change_tensors, contents, good_folder, write_json
from zaya_cli.app import main

ARGUMENTS = ["run", "-p", "hi", "--device", "cpu", "--max-tokens", "2", "--model"]


@pytest.fixture(autouse=True)
def _stay_offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def run_here(model, capsys, monkeypatch, *more):
    """The command in this process, with nothing on stdin: exit code, stdout, stderr."""
    monkeypatch.setattr(sys, "argv", ["zaya", *ARGUMENTS, str(model), *more])
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(SystemExit) as caught:
            main()
    streams = capsys.readouterr()
    return caught.value.code or 0, streams.out, streams.err


def assert_one_sentence(outcome, expected_code):
    code, out, err = outcome
    assert (code, out) == (expected_code, "")
    assert err.startswith("zaya: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert "Unexpected" not in err


@pytest.mark.parametrize("name", FOLDERS)
def test_a_broken_folder_is_one_line_and_its_exit_code(name, tmp_path, capsys, monkeypatch):
    folder = good_folder(tmp_path / "model")
    FOLDERS[name].damage(folder)
    before = contents(folder)
    assert_one_sentence(run_here(folder, capsys, monkeypatch), FOLDERS[name].exit_code)
    assert contents(folder) == before
    assert os.listdir(tmp_path) == ["model"]


def test_the_good_folder_answers(tmp_path, capsys, monkeypatch):
    code, _, err = run_here(good_folder(tmp_path / "model"), capsys, monkeypatch, "--quiet")
    assert (code, "zaya: " in err) == (0, False)


def test_a_file_instead_of_a_folder(tmp_path, capsys, monkeypatch):
    assert_one_sentence(run_here(good_folder(tmp_path / "model") / FIRST, capsys, monkeypatch), 3)


def test_a_folder_that_is_not_there(tmp_path, capsys, monkeypatch):
    assert_one_sentence(run_here(tmp_path / "nowhere", capsys, monkeypatch), 3)


def test_a_prompt_longer_than_the_context(tmp_path, capsys, monkeypatch):
    long = "the cat sat " * 300
    assert_one_sentence(run_here(good_folder(tmp_path / "model"), capsys, monkeypatch, "-p", long), 6)


@pytest.mark.parametrize(
    "flags",
    [("--temperature", "-1"), ("--top-p", "1.1"), ("--top-k", "-3"), ("--min-p", "1"), ("--repeat-penalty", "0")],
)
def test_a_sampling_parameter_out_of_range(flags, tmp_path, capsys, monkeypatch):
    code, out, err = run_here(good_folder(tmp_path / "model"), capsys, monkeypatch, *flags)
    assert (code, out) == (2, "")
    assert "Traceback" not in err


def test_top_p_of_zero_is_the_likeliest_token_and_said_once(tmp_path, capsys, monkeypatch):
    folder = good_folder(tmp_path / "model")
    expected = run_here(folder, capsys, monkeypatch, "--temperature", "0")
    code, out, err = run_here(folder, capsys, monkeypatch, "--top-p", "0")
    assert (code, out) == (0, expected[1])
    assert err.count("top-p 0 keeps the likeliest token only") == 1
    assert "top-p" not in expected[2]


def test_a_sampling_default_without_a_meaning_is_named_and_the_folder_answers(tmp_path, capsys, monkeypatch):
    folder = good_folder(tmp_path / "model")
    write_json(folder / "generation_config.json", {"temperature": "warm", "top_p": 0.0})
    code, _, err = run_here(folder, capsys, monkeypatch)
    assert code == 0
    assert err.count("generation_config.json: temperature is 'warm'; it must be a number. It is left out") == 1


def test_a_head_stored_twice_is_said_once(tmp_path, capsys, monkeypatch):
    folder = good_folder(tmp_path / "model")
    change_tensors(lambda all: all.update({"lm_head.weight": all["model.embed_tokens.weight"].clone()}))(folder)
    code, _, err = run_here(folder, capsys, monkeypatch)
    assert (code, err.count("lm_head.weight")) == (0, 1)


@pytest.mark.processes
@pytest.mark.parametrize("name", ["shard cut in its data", "config not JSON", "shard missing"])
def test_the_same_as_a_process_of_its_own(name, tmp_path):
    folder = good_folder(tmp_path / "model")
    FOLDERS[name].damage(folder)
    command = [sys.executable, "-c", "from zaya_cli.app import main; main()", *ARGUMENTS, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert_one_sentence((done.returncode, done.stdout, done.stderr), FOLDERS[name].exit_code)
