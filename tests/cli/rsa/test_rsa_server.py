"""`zaya run --rsa --endpoint` against a server that is not ours: `transformers serve` with the bundled model."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from zaya_cli.models.folder import BUNDLED

pytestmark = pytest.mark.processes

for package in ("openai", "fastapi", "uvicorn"):
    pytest.importorskip(package, reason="transformers[serving] is not installed")

RSA = shlex.split("--rsa 2 --rsa-rounds 1 --rsa-think 200 --rsa-tail 100 --rsa-answer 40 --seed 1")


@pytest.fixture(scope="module")
def plain_folder(tmp_path_factory):
    """The bundled model with a tokenizer that adds nothing to a text, so that prompts can be sent as text."""
    folder = tmp_path_factory.mktemp("served") / "demo"
    shutil.copytree(BUNDLED / "demo", folder)
    for name, changes in (
        ("tokenizer.json", {"post_processor": None}),
        ("tokenizer_config.json", {"add_bos_token": False, "add_eos_token": False}),
    ):
        value = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**value, **changes}))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The base URL of `transformers serve`, which loads the folder that a request names."""
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--port", "0", "--device", "cpu"]
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    log = home / "log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=file, env=environment, text=True)
    try:
        yield _announced_url(process)
    finally:
        process.kill()
        process.wait()


def _announced_url(process):
    assert process.stderr is not None
    said = []
    for line in process.stderr:  # ends when the process does
        said.append(line)
        if found := re.search(r"running on (http://[\w.]+:\d+)", line):
            return f"{found[1]}/v1"
    raise AssertionError("".join(said))


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")


def run(zaya, server, folder):
    command = ("run", "-p", "What is 2 + 3?", "-m", folder, *RSA, "--endpoint", server, "--endpoint-model", folder)
    result = zaya(*command, "--format", "json", "--rsa-parallel", "2")
    assert result.code == 0, result.err
    return json.loads(result.out), result.err


def test_thoughts_are_closed_by_completions(zaya, server, plain_folder):
    value, notes = run(zaya, server, plain_folder)
    candidates = value["rsa"]["candidates"]
    assert {one["state"] for one in candidates} <= {"done", "cut"}
    assert all(one["thinking"] for one in candidates)
    assert all(bool(one["answer"]) == (one["stage"] == 1) for one in candidates)
    assert "boxed" in value["text"]
    assert "min-p" in notes and "chat completions" not in notes


def test_a_server_that_would_add_tokens_to_a_prompt_is_asked_by_chat(zaya, server):
    value, notes = run(zaya, server, BUNDLED / "demo")
    assert "chat completions are used" in notes
    assert all(one["thinking"] and one["state"] in ("done", "cut") for one in value["rsa"]["candidates"])
    assert "boxed" in value["text"]
