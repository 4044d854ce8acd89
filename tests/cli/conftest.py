"""A command in this process, with its streams, and a small model folder to run it on."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import pytest

from tests.core.tiny_models import reference_model, save_native
from tests.core.tokenizers_made_here import gemma_text, write_folder


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    pytest.importorskip("transformers")
    path = save_native(
        reference_model("base", vocab_size=704, max_position_embeddings=300), tmp_path_factory.mktemp("m")
    )
    return write_folder(path, gemma_text())


@pytest.fixture
def zaya(monkeypatch, capsys, tmp_path):
    """Run `zaya ARGUMENTS` with text piped into it."""
    from zaya_cli.app import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments, piped=""):
        monkeypatch.setattr(sys, "argv", ["zaya", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped.encode()), encoding="utf-8"))
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Result(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return run
