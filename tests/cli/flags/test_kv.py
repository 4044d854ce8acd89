"""`--kv int8`, its variable and its line in config.toml reach the model."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from zaya_cli.app import app

BENCH = ["bench", "--model", "demo", "-p", "0", "-n", "1", "-r", "1", "--threads", "1", "--format", "json"]
RUN = ["run", "--model", "demo", "-p", "What is 2 + 3?", "--temperature", "0", "--threads", "1", "--thinking", "hide"]


def run(*words, **environment):
    return CliRunner().invoke(app, list(words), env=environment)


def kv_of(done):
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["model"]["kv"]


@pytest.mark.usefixtures("quickly_read")
def test_a_flag_wins_over_the_variable_and_that_over_the_file(tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('kv = "int8"\n')
    assert kv_of(run(*BENCH)) == "bfloat16"
    assert kv_of(run(*BENCH, ZAYA_CONFIG=str(config))) == "int8"
    assert kv_of(run(*BENCH, ZAYA_CONFIG=str(config), ZAYA_KV="auto")) == "bfloat16"
    assert kv_of(run(*BENCH, "--kv", "int8", ZAYA_KV="auto")) == "int8"


def test_a_question_is_answered_with_int8_keys_and_values():
    done = run(*RUN, "--kv", "int8")
    assert (done.exit_code, done.stdout) == (0, run(*RUN).stdout)
    assert "boxed" in done.stdout


@pytest.mark.parametrize("words", [["--kv", "int4"], []])
def test_a_form_that_is_not_offered_is_refused(words):
    done = run(*RUN, *words, ZAYA_KV="float8")
    assert done.exit_code == 2
