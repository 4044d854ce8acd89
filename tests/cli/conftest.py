"""A command in this process, with its streams, and a small model folder to run it on."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import pytest
import torch

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


def biased_folder(path, bias_of, **sizes):
    """A tiny model whose output head adds `bias_of(piece)` to the logit of each piece of its vocabulary."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer

    model = reference_model("tied_head_with_bias", vocab_size=704, **sizes)
    tokenizer = Tokenizer.from_str(gemma_text())
    model.lm_head.bias.data = torch.tensor([bias_of(tokenizer.id_to_token(id_) or "") for id_ in range(704)])
    return write_folder(save_native(model, path), gemma_text())


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
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped.encode()), encoding="utf-8"))
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        code = ended.value.code
        return Result(code if isinstance(code, int) else int(code is not None), captured.out, captured.err)

    return run
