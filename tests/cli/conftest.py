"""A command in this process, with its streams, a small model folder to run it on, and a Hub to download from."""

from __future__ import annotations

import functools
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import typer.main
from huggingface_hub import constants

import zaya_cli
from tests.cli.loopback_hub import REPO, running
from tests.core.tiny_models import reference_model, save_native
from tests.core.tokenizers_made_here import gemma_text, write_folder
from zaya_cli.models import download
from zaya_core.text.template.built_in import BUILT_IN_TEMPLATE


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def _commands_are_built_once():
    """Typer builds all commands anew at each start; a built one can be called any number of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.main.get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    pytest.importorskip("transformers")
    path = save_native(
        reference_model("base", vocab_size=704, max_position_embeddings=300), tmp_path_factory.mktemp("m")
    )
    return write_folder(path, gemma_text(), chat_template=BUILT_IN_TEMPLATE)


def biased_folder(path, bias_of, **sizes):
    """A tiny model whose output head adds `bias_of(piece)` to the logit of each piece of its vocabulary."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    model = reference_model("tied_head_with_bias", vocab_size=704, **sizes)
    tokenizer = Tokenizer.from_str(gemma_text())
    model.lm_head.bias.data = torch.tensor([bias_of(tokenizer.id_to_token(id_) or "") for id_ in range(704)])
    return write_folder(save_native(model, path), gemma_text(), chat_template=BUILT_IN_TEMPLATE)


@pytest.fixture(scope="session")
def endless_folder(tmp_path_factory):
    """A model whose answer is ` the the the ...` until somebody stops it, or its 100,000 positions are full."""
    path = tmp_path_factory.mktemp("endless")
    return biased_folder(path, lambda piece: 1e4 * (piece == "\u2581the"), max_position_embeddings=100_000)


@pytest.fixture(scope="session")
def talking_folder(tmp_path_factory):
    """A model that says random words of plain letters and never ends by itself."""
    path = tmp_path_factory.mktemp("talking")
    return biased_folder(path, lambda piece: 0.0 if piece.removeprefix("\u2581").isalpha() else -1e4)


@pytest.fixture
def zaya(monkeypatch, capsys, tmp_path):
    """Run `zaya ARGUMENTS` with text piped into it."""
    from zaya_cli.app import main

    monkeypatch.chdir(tmp_path)
    for kind in ("STATE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))

    def run(*arguments, piped=""):
        monkeypatch.setattr(sys, "argv", ["zaya", *map(str, arguments)])
        content = piped.encode() if isinstance(piped, str) else piped
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Result(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return run


@pytest.fixture
def quickly_read(monkeypatch):
    """`zaya bench` reads 1 MB of memory in place of 2 GB, ten times or more for every case."""
    monkeypatch.setattr("zaya_core.measure.bench.BYTES", 1 << 20)


@pytest.fixture
def hub(files, tmp_path, monkeypatch):
    """A Hub that serves the `files` of the test's module, for this process; its cache is in `tmp_path`."""
    with running(files) as hub:
        settings = {
            "ENDPOINT": hub.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(tmp_path / "home/hub"),
            "HF_HUB_OFFLINE": False,
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        monkeypatch.setattr(download, "_FIRST_PAUSE", 0.0)
        yield hub


@pytest.fixture
def start(hub, tmp_path):
    """Start `zaya pull` as a process of its own with the same cache and places."""
    started = []

    def start(*arguments, **changes):
        environment = {
            **os.environ,
            "PYTHONPATH": str(Path(zaya_cli.__file__).parents[1]),
            "HF_HOME": str(tmp_path / "home"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": "0",
            "XDG_DATA_HOME": str(tmp_path / "data"),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "zaya_cli.app", "pull", REPO, *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            env={**environment, **changes.pop("env", {})}, **changes,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
