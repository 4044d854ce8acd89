"""What is on this machine, which model is taken when none is named, and `zaya models`."""

from __future__ import annotations

import json
import os
import pty
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.cli.commands.test_run import Screen
from tests.cli.hub_cache import COMMIT, cache_repo
from zaya_cli import runtime
from zaya_cli.machine.hardware import Memory
from zaya_cli.models.folder import DEFAULT_REPO, find_model_folder
from zaya_cli.models.inventory import format_of, present_models
from zaya_core.config.parse import parse_config
from zaya_core.errors import CheckpointError, ModelNotFoundError

ZAYA = {"model_type": "zaya", "layer_types": ["hybrid"] * 40}
GB = 10**9
CONFIG = parse_config(ZAYA)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "hub"


def test_without_a_model_it_is_said_what_to_type(zaya):
    result = zaya("run", "-p", "hello")
    assert (result.code, result.out) == (3, "")
    assert "`zaya pull`" in result.err
    assert "--model demo" in result.err


def test_run_takes_the_present_model_and_says_so_in_the_statistics(zaya, folder, tmp_path):
    (tmp_path / "data/zaya/models").mkdir(parents=True)
    (tmp_path / "data/zaya/models/my-model").symlink_to(folder)
    result = zaya("run", "-p", "hello", "-n", "4", "--stats")
    assert result.code == 0
    assert "my-model: the only model here" in result.err
    value = json.loads(zaya("run", "-p", "hello", "-n", "4", "--format", "json").out)
    assert value["model"] == "my-model"


def test_the_cache_is_listed_by_name_with_formats_and_revisions(cache):
    cache_repo(DEFAULT_REPO, {**ZAYA, "dtype": "bfloat16"})
    cache_repo("Zyphra/ZAYA1-base", ZAYA, commit="b" * 40, branch="experiment")
    cache_repo("some/llama", {"model_type": "llama"})
    (cache / "models--broken--one/snapshots").mkdir(parents=True)
    found = {model.name: model for model in present_models() if model.place == "hub"}
    assert set(found) == {DEFAULT_REPO, "Zyphra/ZAYA1-base@experiment"}
    assert found[DEFAULT_REPO].weight_bytes == 1000
    assert found[DEFAULT_REPO].problem is None
    assert find_model_folder("Zyphra/ZAYA1-base@experiment") == found["Zyphra/ZAYA1-base@experiment"].folder


def test_an_unfinished_download_is_listed_and_not_taken(zaya):
    cache_repo(DEFAULT_REPO, ZAYA, unfinished=True, branch=None)
    result = zaya("models")
    assert result.code == 0
    assert f"`zaya pull {DEFAULT_REPO}` goes on" in result.out
    refused = zaya("run", "-p", "hello", "-m", DEFAULT_REPO)
    assert refused.code == 3
    assert "goes on where it stopped" in refused.err


OURS = {"format_version": 1, "group_size": 64, "dtype": "bfloat16"}
FP8 = {"weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}


@pytest.mark.parametrize(
    ("block", "name"),
    [
        ({}, "bf16"),
        ({"dtype": "float32"}, "f32"),
        ({"torch_dtype": "bfloat16"}, "bf16"),
        ({"quantization": {**OURS, "format": "int4", "dense": "int8"}}, "int4 (dense int8)"),
        ({"quantization": {**OURS, "format": "int4", "dense": "int4"}}, "int4"),
        ({"quantization": {**OURS, "format": "int8", "dense": "int8"}}, "int8"),
        ({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"a": FP8}}}, "fp8"),
    ],
)
def test_the_format_is_read_from_the_configuration(block, name):
    raw = {**ZAYA, **block}
    assert format_of(parse_config(raw), raw) == name


def test_an_unfinished_quantization_is_listed_with_what_to_type(zaya, tmp_path):
    folder = tmp_path / "data/zaya/models/mine"
    folder.mkdir(parents=True)
    (folder / "config.json.unfinished").write_text("{}")
    assert "`zaya quantize` goes on" in zaya("models").out


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"{}"])
def test_a_damaged_folder_is_listed_with_its_problem_and_disturbs_nothing(zaya, folder, tmp_path, damage):
    broken = tmp_path / "data/zaya/models/broken"
    broken.mkdir(parents=True)
    (broken / "config.json").write_bytes(damage)
    (tmp_path / "data/zaya/models/good").symlink_to(folder)
    value = {entry["name"]: entry for entry in json.loads(zaya("models", "list", "--format", "json").out)}
    assert value["broken"]["problem"]
    assert value["good"]["is_default"]
    assert value["demo"]["place"] == "bundled"


def test_a_quantized_model_is_found_by_its_name(folder, tmp_path):
    (tmp_path / "data/zaya/models").mkdir(parents=True)
    (tmp_path / "data/zaya/models/mine").symlink_to(folder)
    assert find_model_folder("mine") == tmp_path / "data/zaya/models/mine"


@pytest.mark.parametrize("index", [None, {"weight_map": {"a": "model-00001-of-00002.safetensors"}}])
def test_a_cache_that_other_programs_filled_in_part_is_an_unfinished_download(index):
    """They fetch `config.json`, and perhaps the index, to look at a model."""
    folder = cache_repo(DEFAULT_REPO, ZAYA)
    (snapshot,) = folder.glob("snapshots/*")
    (snapshot / "model.safetensors").unlink()
    if index is not None:
        (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelNotFoundError, match=f"not finished: type `zaya pull {DEFAULT_REPO}`"):
        find_model_folder(DEFAULT_REPO)
    (found,) = [one for one in present_models() if one.name == DEFAULT_REPO]
    assert found.problem is not None
    assert "the download is not finished" in found.problem


def test_a_gguf_file_is_named_as_what_it_is(tmp_path):
    (tmp_path / "zaya.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelNotFoundError, match=r"is a file; give the folder .*safetensors and not GGUF"):
        find_model_folder(str(tmp_path / "zaya.gguf"))


def test_a_folder_behind_a_closed_one_is_not_said_to_be_missing(monkeypatch, tmp_path):
    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(CheckpointError, match="cannot be opened"):
        find_model_folder(str(tmp_path / "closed" / "model"))


def test_verify_finds_one_wrong_byte_and_pull_can_replace_it(zaya):
    repo = cache_repo(DEFAULT_REPO, ZAYA)
    assert "intact (2 of 2 files" in zaya("models", "verify").out
    link = repo / "snapshots" / COMMIT / "model.safetensors"
    link.resolve().write_bytes(b"w" * 999 + b"x")
    result = zaya("models", "verify", DEFAULT_REPO)
    assert result.code == 5
    assert result.out == f"{DEFAULT_REPO}: damaged: model.safetensors\n"
    assert "--remove-damaged" in result.err
    assert link.exists()
    assert zaya("models", "verify", "--remove-damaged").code == 5
    assert not os.path.lexists(link)
    assert [path.name for path in (repo / "blobs").iterdir()] == [
        (repo / "snapshots" / COMMIT / "config.json").resolve().name
    ]


def test_verify_checks_headers_where_there_are_no_checksums(zaya, folder, tmp_path):
    (tmp_path / "data/zaya/models").mkdir(parents=True)
    (tmp_path / "data/zaya/models/mine").symlink_to(folder)
    assert "headers are intact" in zaya("models", "verify", "mine").out
    assert zaya("models", "verify", "nothing").code == 3


def test_rm_asks_or_is_told(zaya, tmp_path):
    repo = cache_repo(DEFAULT_REPO, ZAYA)
    other = cache_repo("Zyphra/ZAYA1-base", ZAYA, commit="b" * 40)
    assert zaya("models", "rm", DEFAULT_REPO).code == 2
    assert zaya("models", "rm", DEFAULT_REPO, "--dry-run").code == 0
    assert repo.exists()
    result = zaya("models", "rm", DEFAULT_REPO, "--yes")
    assert (result.code, result.out) == (0, "")
    assert not repo.exists()
    assert other.exists()
    assert zaya("models", "rm", DEFAULT_REPO, "--yes").code == 3


def test_rm_of_one_revision_keeps_the_other(zaya):
    repo = cache_repo(DEFAULT_REPO, ZAYA)
    cache_repo(DEFAULT_REPO, {**ZAYA, "vocab_size": 1000}, weights=b"v" * 500, commit="b" * 40, branch="next")
    assert zaya("models", "rm", f"{DEFAULT_REPO}@next", "--yes").code == 0
    assert [path.name for path in (repo / "snapshots").iterdir()] == [COMMIT]
    assert "intact" in zaya("models", "verify").out


def test_rm_deletes_a_quantized_folder_and_refuses_a_bundled_one(zaya, tmp_path):
    mine = tmp_path / "data/zaya/models/mine"
    mine.mkdir(parents=True)
    (mine / "config.json").write_text(json.dumps(ZAYA))
    (mine / "model.safetensors").write_bytes(b"w" * 100)
    assert zaya("models", "rm", "mine", "--yes").code == 0
    assert not list(mine.parent.iterdir())
    assert zaya("models", "rm", "demo", "--yes").code == 2


@pytest.mark.processes
def test_rm_on_a_terminal_asks_and_takes_no_for_an_answer(tmp_path):
    repo = cache_repo(DEFAULT_REPO, ZAYA)
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"HF_HOME": str(tmp_path), "TERM": "dumb"}
        os.execv(sys.executable, [sys.executable, "-m", "zaya_cli.app", "models", "rm", DEFAULT_REPO])
    screen = Screen(terminal)
    screen.wait_for("Remove it?")
    os.write(terminal, b"n\r")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert repo.exists()


def test_a_model_that_does_not_fit_is_refused_with_what_would_help(zaya, folder, monkeypatch):
    monkeypatch.setattr(runtime, "memory_of", lambda device: Memory("main memory", 500_000_000, 400_000_000))
    result = zaya("run", "-p", "hello", "-m", folder, "-n", "2")
    assert (result.code, result.out) == (4, "")
    assert "there are 0.50 GB" in result.err
    assert zaya("run", "-p", "hello", "-m", folder, "-n", "2", "--force").code == 0


def test_a_model_that_is_tight_is_loaded_with_a_warning(zaya, folder, monkeypatch):
    monkeypatch.setattr(runtime, "memory_of", lambda device: Memory("main memory", 8 * GB, 1000))
    result = zaya("run", "-p", "hello", "-m", folder, "-n", "2", "-q")
    assert result.code == 0
    assert "1.0 kB are free" in result.err
