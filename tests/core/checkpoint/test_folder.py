"""A model folder is read once, however many ask for what is in it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.core.broken_folders import good_folder, write_json
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.checkpoint.fingerprint import fingerprint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.config.parse import read_config
from zaya_core.engine.generation_config import read_sampling_defaults
from zaya_core.errors import ConfigError, ModelNotFoundError
from zaya_core.load import load_model
from zaya_core.rsa.prompt import aggregation_of
from zaya_core.text.tokenizer import load_tokenizer


@pytest.fixture
def folder(tmp_path):
    path = good_folder(tmp_path / "model")
    write_json(path / "generation_config.json", {"temperature": 0.5})
    return path


@pytest.fixture
def opened(monkeypatch):
    """How often each file was opened, by its name."""
    counts: Counter[str] = Counter()
    original = Path.open

    def counting(self, *arguments, **options):
        counts[self.name] += 1
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", counting)
    return counts


def test_no_json_file_is_opened_twice(folder, opened):
    whole = ModelFolder(folder)
    load_tokenizer(whole)
    load_model(whole, device="cpu")
    open_checkpoint(whole)
    assert read_sampling_defaults(whole).params.temperature == 0.5
    aggregation_of(whole)
    assert {name for name in opened if name.endswith(".json")} >= {"config.json", "generation_config.json"}
    assert [name for name, count in opened.items() if count > 1 and name.endswith(".json")] == []


def test_it_says_what_the_files_say(folder):
    whole = ModelFolder(folder)
    assert whole.config == read_config(folder)
    assert whole.fingerprint == fingerprint(folder)
    assert whole.weight_bytes == sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert whole.nbytes == sum(path.stat().st_size for path in folder.iterdir())
    assert whole.json_object("no_such.json") == {}
    assert ModelFolder.of(whole) is whole and ModelFolder.of(str(folder)).path == folder


def test_what_is_wrong_is_said_each_time(tmp_path):
    for _ in range(2):
        with pytest.raises(ModelNotFoundError):
            _ = ModelFolder(tmp_path).config
    (tmp_path / "config.json").write_text("[")
    whole = ModelFolder(tmp_path)
    for _ in range(2):
        with pytest.raises(ConfigError, match="not valid JSON"):
            _ = whole.config
