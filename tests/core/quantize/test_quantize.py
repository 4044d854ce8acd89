"""`zaya_core.quantize.run`: nothing half-written is ever taken for a model, and a run that was cut short goes on."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import time
from dataclasses import replace

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file

from tests.core.quantized_models import contents, quantized_folder, source_folder
from zaya_core.checkpoint.writer import ShardWriter
from zaya_core.config.parse import read_config
from zaya_core.errors import CheckpointError, DeviceError, DiskSpaceError, ModelNotFoundError, UsageError
from zaya_core.load import load_model
from zaya_core.quantize.calibration import CalibrationRun
from zaya_core.quantize.calibration_text import read_calibration_text
from zaya_core.quantize.job import QuantizationJob, QuantizeSettings
from zaya_core.quantize.run import quantize
from zaya_core.quantize.verify import verify
from zaya_core.text.tokenizer import load_tokenizer

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return source_folder(tmp_path_factory.mktemp("source") / "model")


@pytest.fixture(scope="module")
def calibrated(source):
    text = read_calibration_text(None, load_tokenizer(source))
    return QuantizeSettings("int4", "int4", replace(text, ids=text.ids[:2]))


@pytest.fixture(scope="module")
def uninterrupted(source, calibrated, tmp_path_factory):
    """What a run without any accident leaves."""
    return contents(quantized_folder(source, tmp_path_factory.mktemp("whole") / "model", calibrated))


class Cut(BaseException):
    """A stop that nobody handles."""


def run(source, out, settings=None):
    quantize(QuantizationJob(source, out, settings or QuantizeSettings()), lambda progress: None)


def assert_no_model(out):
    """Neither the folder nor the unfinished one is taken for a model."""
    assert not out.exists()
    unfinished = out.with_name(out.name + ".unfinished")
    if unfinished.is_dir() and not (unfinished / "config.json").exists():
        with pytest.raises(ModelNotFoundError):
            read_config(unfinished)


@pytest.mark.parametrize("at", [0, 1, 7, 30, 60, 90, 100, 130])
def test_a_run_cut_anywhere_goes_on_to_the_same_bytes(source, calibrated, uninterrupted, at, tmp_path, monkeypatch):
    """Cut at the at-th tensor that is written."""
    written = 0
    write = ShardWriter.write

    def counting(self, *arguments):
        nonlocal written
        written += 1
        if written > at:
            raise Cut
        write(self, *arguments)

    monkeypatch.setattr(ShardWriter, "write", counting)
    with pytest.raises(Cut):
        run(source, tmp_path / "out", calibrated)
    assert_no_model(tmp_path / "out")
    monkeypatch.undo()
    run(source, tmp_path / "out", calibrated)
    assert contents(tmp_path / "out") == uninterrupted
    assert sorted(os.listdir(tmp_path)) == [".out.lock", "out"]


def test_a_state_whose_writing_was_killed_is_not_in_the_result(
    source, calibrated, uninterrupted, tmp_path, monkeypatch
):
    def killed(self, path):
        path.with_name(path.name + ".tmp").write_bytes(b"half")
        raise Cut

    monkeypatch.setattr(CalibrationRun, "save", killed)
    with pytest.raises(Cut):
        run(source, tmp_path / "out", calibrated)
    (unfinished,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert list(unfinished.glob("*.tmp"))
    monkeypatch.setattr(CalibrationRun, "save", lambda self, path: None)
    run(source, tmp_path / "out", calibrated)
    assert contents(tmp_path / "out") == uninterrupted


@pytest.mark.processes
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_run_goes_on_to_the_same_bytes(source, calibrated, uninterrupted, tmp_path):
    """SIGKILL at 20 random moments, each of a run that goes on from where the one before was killed."""
    rng, out = random.Random(4), tmp_path / "out"
    started = time.monotonic()
    shutil.rmtree(quantized_folder(source, tmp_path / "timed", calibrated))
    duration = time.monotonic() - started
    killed = 0
    for _ in range(20):
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            run(source, out, calibrated)
            os._exit(0)
        time.sleep(rng.uniform(0, duration / 3))  # the moment of the kill, not a wait for anything
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
            if not out.exists():
                assert_no_model(out)
        if out.exists():
            assert contents(out) == uninterrupted
            shutil.rmtree(out)
    if not out.exists():
        run(source, out, calibrated)
    assert contents(out) == uninterrupted
    assert killed > 5


def test_the_result_is_a_whole_model_folder(source, calibrated, uninterrupted):
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} <= uninterrupted.keys()
    assert not [name for name in uninterrupted if "unfinished" in name or "state" in name or name.endswith(".tmp")]


def test_data_starts_at_a_multiple_of_64_large_tensors_first(uninterrupted):
    for name, data in uninterrupted.items():
        if name.endswith(".safetensors"):
            length = int.from_bytes(data[:8], "little")
            assert (8 + length) % 64 == 0


def test_a_result_is_not_overwritten(source, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        run(source, tmp_path / "out")


def test_other_settings_do_not_go_on_with_an_unfinished_run(source, tmp_path, monkeypatch):
    monkeypatch.setattr("zaya_core.quantize.run._finish", lambda job: (_ for _ in ()).throw(Cut))
    with pytest.raises(Cut):
        run(source, tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(UsageError, match="begun with other settings"):
        run(source, tmp_path / "out", QuantizeSettings("int8"))
    run(source, tmp_path / "out")
    load_model(tmp_path / "out", device="cpu")


def test_two_runs_do_not_write_the_same_folder(source, tmp_path):
    with FileLock(tmp_path / ".out.lock"), pytest.raises(UsageError, match="Another zaya is writing"):
        run(source, tmp_path / "out")


def test_a_disk_that_is_too_small_is_told_before(source, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    with pytest.raises(DiskSpaceError, match=r"needs 0\.05 GB more, but 0\.00 GB are free"):
        run(source, tmp_path / "out")
    assert_no_model(tmp_path / "out")


@pytest.mark.parametrize(
    ("number", "error", "says"),
    [(errno.ENOSPC, DiskSpaceError, "is full.*goes on"), (errno.EROFS, UsageError, "cannot be written.*--out")],
)
def test_a_disk_that_fails_on_the_way_is_one_sentence_and_the_run_can_go_on(
    source, calibrated, uninterrupted, number, error, says, tmp_path, monkeypatch
):
    calls = 0

    def failing(descriptor):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(error, match=says):
        run(source, tmp_path / "out", calibrated)
    assert_no_model(tmp_path / "out")
    monkeypatch.undo()
    run(source, tmp_path / "out", calibrated)
    assert contents(tmp_path / "out") == uninterrupted


def test_a_place_that_cannot_be_written_is_one_sentence(source, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot be written \(Not a directory\)"):
        run(source, tmp_path / "file" / "out")


def changed_source(source, folder, change):
    shutil.copytree(source, folder)
    change(folder)
    return folder


def test_weights_that_are_not_numbers_are_named(source, tmp_path):
    def spoil(folder):
        tensors = load_file(folder / "model.safetensors")
        tensors["model.layers.1.mlp.experts.down_proj"][2, 5, 7] = torch.nan
        save_file(tensors, folder / "model.safetensors")

    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.experts\.down_proj .*not finite"):
        run(changed_source(source, tmp_path / "source", spoil), tmp_path / "out")
    assert_no_model(tmp_path / "out")


@pytest.mark.parametrize("factor", [1, 2])
def test_a_head_stored_beside_the_embedding_must_be_equal_and_is_left_out(
    source, uninterrupted, calibrated, factor, tmp_path
):
    def add_head(folder):
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = factor * tensors["model.embed_tokens.weight"]
        save_file(tensors, folder / "model.safetensors")

    changed = changed_source(source, tmp_path / "source", add_head)
    if factor == 1:
        run(changed, tmp_path / "out", calibrated)
        made = contents(tmp_path / "out")
        assert all(made[name] == content for name, content in uninterrupted.items() if name.endswith("safetensors"))
        return
    with pytest.raises(CheckpointError, match=r"differs from model\.embed_tokens\.weight"):
        run(changed, tmp_path / "out", calibrated)
    assert_no_model(tmp_path / "out")


def test_a_cut_source_is_refused_before_anything_is_written(source, tmp_path):
    def cut(folder):
        os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size - 100)

    with pytest.raises(CheckpointError, match="damaged"):
        run(changed_source(source, tmp_path / "source", cut), tmp_path / "out")
    assert os.listdir(tmp_path) == ["source"]


def test_a_quantized_model_is_no_source(source, tmp_path):
    run(source, tmp_path / "out")
    with pytest.raises(UsageError, match="quantized already"):
        run(tmp_path / "out", tmp_path / "again")


def test_a_width_that_cannot_be_grouped_is_refused_by_name(tmp_path):
    narrow = source_folder(tmp_path / "narrow", moe_intermediate_size=48)
    with pytest.raises(UsageError, match=r"experts\.down_proj cannot be quantized: .*48 is not a multiple"):
        run(narrow, tmp_path / "out")


def test_nf4_without_its_library_is_one_sentence(source, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    with pytest.raises(DeviceError, match="pip install bitsandbytes"):
        run(source, tmp_path / "out", QuantizeSettings("nf4"))
    assert os.listdir(tmp_path) == []


def test_verify_measures_the_source_and_refuses_another(source, tmp_path):
    run(source, tmp_path / "out")
    errors = list(verify(source, tmp_path / "out"))
    assert {"int8", "int4"} == {one.kind for one in errors}
    assert all(0 < one.relative < (0.02 if one.kind == "int8" else 0.15) for one in errors)
    other = source_folder(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match=r"more than rounding to int[48] explains"):
        list(verify(other, tmp_path / "out"))


@pytest.mark.parametrize("rows", [1, 3])
def test_calibration_states_are_those_of_the_model(source, rows):
    """Layer by layer with a cache of one layer, and all at once in the model: the head sees the same."""
    from zaya_core.checkpoint.checkpoint import open_checkpoint
    from zaya_core.quantize.calibration import CalibrationRun

    config = read_config(source)
    checkpoint = open_checkpoint(source)
    ids = torch.randint(3, 700, (rows, 20), generator=torch.Generator().manual_seed(rows))
    states = CalibrationRun.begin(config, checkpoint, ids)
    for _ in range(config.num_hidden_layers):
        inputs = states.advance(checkpoint, with_dense=True)
        experts = inputs[f"model.layers.{states.layers_done - 1}.mlp.experts.gate_up_proj"]
        assert sum(one.count for one in experts) <= rows * 20
    model = load_model(source, device="cpu")
    logits = model.steps.logits(states.residual)
    torch.testing.assert_close(logits, model(ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("content", "name", "says"),
    [
        (b"too short", "a.txt", "tokens; calibration needs"),
        (b"\xff\xfe" * 50, "a.txt", "is not UTF-8"),
        (b'{"question": 1}', "a.jsonl", "line 1: an object with the texts"),
        (b"\n[1, 2]", "a.jsonl", "line 2: an object with the texts"),
        (b"{", "a.jsonl", "line 1: an object with the texts"),
    ],
)
def test_a_calibration_text_that_is_none_is_one_sentence(source, content, name, says, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_calibration_text(tmp_path / name, load_tokenizer(source))


def test_a_plain_calibration_text_is_read(source, tmp_path):
    (tmp_path / "a.txt").write_text("the cat sat on the mat " * 500)
    text = read_calibration_text(tmp_path / "a.txt", load_tokenizer(source))
    assert text.ids.shape[1] == 512
    assert text.name == "a.txt"
