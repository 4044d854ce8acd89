"""Whatever a person asks for is done, or it is said that it is not."""

from __future__ import annotations

import json
import os

import pytest

from zaya_cli.machine.hardware import Memory
from zaya_cli.models.choice import choose
from zaya_cli.models.inventory import present_models

BENCH = ("bench", "-p", "8", "-n", "2", "-r", "1", "--threads", "1")
PLENTY = Memory("main memory", 10**12, 10**12)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("bench", "--dummy", "--model", "demo"), "--dummy measures random weights"),
        (("bench", "--model", "demo", "--dense", "int4"), "add --dummy"),
        (("bench", "--model", "demo", "--quant", "bf16"), "add --dummy"),
        (("bench", "--model", "demo", "--threads", "0"), "--threads is 0"),
        (("bench", "--model", "demo", "--threads", "-3"), "--threads is -3"),
        (("run", "-p", "1+1", "--model", "demo", "--logprobs", "3"), "--format json or jsonl"),
        (("run", "-p", "1+1", "--model", "demo", "--logprobs", "0"), "--format json or jsonl"),
        (("run", "-p", "1+1", "--model", "demo", "--threads", "1000000"), "from 1 to 1,024"),
        (("quantize", "--model", "demo", "--threads", "0"), "--threads is 0"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(zaya, command, words):
    result = zaya(*command)
    assert (result.code, result.out) == (2, "")
    assert words in result.err


@pytest.mark.usefixtures("quickly_read")
def test_bench_measures_the_folder_that_quant_names(zaya):
    missing = zaya(*BENCH, "--model", "demo", "--quant", "int8")
    assert missing.code == 3
    assert "zaya quantize --model demo --format int8" in missing.err
    assert zaya("quantize", "--model", "demo", "--format", "int8", "-q").code == 0
    measured = json.loads(zaya(*BENCH, "--model", "demo", "--quant", "int8", "--format", "json").out)
    assert measured["model"]["name"] == "demo-int8"
    assert measured["model"]["format"].startswith("int8")


def test_more_threads_than_processors_are_taken_and_said(zaya):
    result = zaya("run", "-p", "1+1", "--model", "demo", "-n", "1", "--threads", "999")
    assert result.code == 0
    assert "999 threads share" in result.err


def test_a_misspelled_variable_is_named_with_what_was_meant(zaya, monkeypatch):
    monkeypatch.setenv("ZAYA_TEMPRATURE", "0.2")
    monkeypatch.setenv("ZAYA_NOTHING_LIKE_IT", "1")
    monkeypatch.setenv("ZAYA_DEBUG", "0")
    result = zaya("run", "-p", "1+1", "--model", "demo", "-n", "1")
    assert result.code == 0
    assert "ZAYA_TEMPRATURE sets nothing (did you mean ZAYA_TEMPERATURE?)." in result.err
    assert "ZAYA_NOTHING_LIKE_IT sets nothing" in result.err
    assert "ZAYA_DEBUG" not in result.err
    assert "ZAYA_TEMPRATURE sets nothing" in zaya("doctor", "--no-self-test").out


@pytest.mark.parametrize("command", [("config", "show"), ("run", "-p", "1+1", "--model", "demo", "-n", "1")])
def test_a_settings_file_that_was_named_must_exist(zaya, monkeypatch, tmp_path, command):
    monkeypatch.setenv("ZAYA_CONFIG", str(tmp_path / "missing.toml"))
    result = zaya(*command)
    assert (result.code, result.out) == (2, "")
    assert f"ZAYA_CONFIG names {tmp_path / 'missing.toml'}, which does not exist" in result.err


@pytest.mark.parametrize(
    "content",
    [
        b"x = " + b"[" * 2000,
        b"seed = " + b"9" * 5000,
        b"\xff\xfe",
        b"temperature = ",
        b"a = 1\na = 2",
        b"#" * 1_000_001,
    ],
)
def test_a_settings_file_that_cannot_be_used_is_named_in_one_sentence(zaya, monkeypatch, tmp_path, content):
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    monkeypatch.setenv("ZAYA_CONFIG", str(path))
    result = zaya("run", "-p", "1+1", "--model", "demo", "-n", "1")
    assert (result.code, result.out) == (2, "")
    assert str(path) in result.err
    assert "Unexpected" not in result.err
    assert "permissions" not in result.err


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no endless file here")
@pytest.mark.parametrize("path", ["/dev/zero", "."])
def test_a_settings_file_that_is_no_file_is_named_at_once(zaya, monkeypatch, path):
    monkeypatch.setenv("ZAYA_CONFIG", path)
    result = zaya("config", "show")
    assert result.code == 2
    assert "Unexpected" not in result.err


def test_a_model_made_from_the_toy_is_never_taken_by_itself(zaya):
    assert zaya("quantize", "--model", "demo", "--format", "int8", "-q").code == 0
    result = zaya("run", "-p", "1+1", "-n", "1")
    assert (result.code, result.out) == (3, "")
    assert "zaya pull" in result.err
    assert (
        json.loads(zaya("run", "-p", "1+1", "-n", "1", "-m", "demo-int8", "--format", "json").out)["text"] is not None
    )


def test_one_folder_has_one_size_wherever_it_is_read(zaya):
    made = zaya("quantize", "--model", "demo", "--format", "int8")
    size = next(line for line in made.err.splitlines() if "instead of" in line).split(" instead")[0]
    shown = {
        "models": zaya("models").out,
        "info": zaya("info", "--model", "demo-int8").out.split("\n\n")[0],
        "rm": zaya("models", "rm", "demo-int8", "--dry-run").err,
        "doctor": zaya("doctor", "--no-self-test").out,
    }
    assert {name for name, text in shown.items() if size in text} == set(shown)


def test_doctor_finds_folders_that_nothing_can_be_written_into(zaya, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file/hub"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    result = zaya("doctor", "--no-self-test")
    assert result.code == 1
    assert f"{tmp_path / 'file/hub'}: Not a directory" in result.out
    assert result.out.count("nothing can be written") == 2
    assert "2 problems, marked X." in result.out
    assert not list(tmp_path.glob("data/**/*"))


def test_the_default_is_chosen_among_whole_models_of_another_family(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (tmp_path / "zaya/models").mkdir(parents=True)
    (tmp_path / "zaya/models/mine").symlink_to(folder)
    assert choose(present_models(), PLENTY).model.name == "mine"
