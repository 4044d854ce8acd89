"""`zaya pull --quant`: quantized while it arrives, to the same bytes as pulled first and quantized then."""

from __future__ import annotations

import json
import re
import shutil
import signal
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from tests.cli.hub_cache import repo_folder
from tests.cli.loopback_hub import COMMIT, REPO, wait_until
from tests.core.quantized_models import contents, source_folder
from zaya_cli.machine.threads import default_threads
from zaya_cli.models import originals
from zaya_cli.models.originals import Originals
from zaya_core.checkpoint import fingerprint, outline
from zaya_core.checkpoint.outline import write_reduced
from zaya_core.checkpoint.writer import ShardWriter
from zaya_core.quantize.calibration_text import read_calibration_text
from zaya_core.quantize.job import QuantizationJob, QuantizeSettings
from zaya_core.quantize.plan import bytes_needed
from zaya_core.quantize.run import quantize
from zaya_core.text.tokenizer import load_tokenizer

pytest.importorskip("transformers")
SHARDS = 5
NAMES = [f"model-{number:05d}-of-{SHARDS:05d}.safetensors" for number in range(1, SHARDS + 1)]


def save_published(folder: Path, layout: str, embedding_last: bool) -> None:
    """A model in shards as published ones are: parameters in their order, cut where a shard is full."""
    source_folder(folder, layout, num_hidden_layers=4, num_experts=8, moe_intermediate_size=128)
    tensors: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        tensors |= load_file(path)
        path.unlink()
    order = sorted(tensors, key=lambda name: [int(part) if part.isdigit() else -1 for part in name.split(".")])
    order.sort(key=lambda name: name.startswith("model.embed") == embedding_last)
    total, begun = sum(tensor.nbytes for tensor in tensors.values()), 0
    weight_map = {}
    for name in order:
        weight_map[name] = NAMES[SHARDS * begun // total]
        begun += tensors[name].nbytes
    for shard in NAMES:
        save_file({name: tensors[name] for name in order if weight_map[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


both_layouts = pytest.mark.parametrize(
    "model", [("native", False), ("original", True)], ids=["native", "original, embedding last"], indirect=True
)


@pytest.fixture(scope="module")
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published") / "model"
    save_published(folder, *getattr(request, "param", ("native", False)))
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "calibration.txt"
    path.write_text("the cat sat on the mat and counted to twelve " * 10)
    return path


@pytest.fixture
def files(model):
    return contents(model)


@pytest.fixture(autouse=True)
def small_ends(monkeypatch):
    """So that most of a small shard is a hole in its outline."""
    for module in (fingerprint, outline, originals):
        monkeypatch.setattr(module, "END_BYTES", 1 << 12)


@pytest.fixture
def models(tmp_path):
    return tmp_path / "data/zaya/models"


def make(model, text, dense):
    """What `zaya quantize` makes of the whole model, on as many threads."""
    torch.set_num_threads(default_threads())
    calibration = read_calibration_text(text, load_tokenizer(model))
    with TemporaryDirectory() as place:
        out = Path(place) / "made"
        job = QuantizationJob(model, out, QuantizeSettings("int4", dense, calibration, REPO, COMMIT))
        quantize(job, lambda _: None)
        return contents(out)


@cache
def made(model, text, dense="int8"):
    return make(model, text, dense)


@cache
def made_afresh(model, text, dense="int8"):
    """`made` in a process of its own, for comparison with another one: sums may depend on what ran before."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(make, model, text, dense).result()


def deleted_but_mapped(folder):
    """Files whose space the disk has not got back, where the system lists them."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    return [line for line in lines if str(folder) in line and line.endswith("(deleted)")]


def asked(text, *more):
    return ("pull", REPO, "--quant", "int4", "--calibrate", text, *more)


def weights_fetched(hub):
    return [name for name in hub.rests_requested() if name in NAMES]


def disk_used(folder):
    """Bytes of all files, holes not counted; deleted files that this process still maps take space, too."""
    maps = Path("/proc/self/maps")
    for line in maps.read_text().splitlines() if maps.exists() else ():
        assert str(folder) not in line or not line.endswith("(deleted)"), line
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


@both_layouts
def test_a_pull_with_quant_leaves_what_pull_and_quantize_leave(zaya, hub, text, models, model):
    assert zaya("pull", REPO).code == 0
    result = zaya("quantize", "--model", REPO, "--calibrate", text)
    assert result.code == 0, result.err
    one_after_the_other = contents(Path(result.out.strip()))
    shutil.rmtree(models)
    shutil.rmtree(repo_folder())
    at_once = zaya(*asked(text))
    assert (at_once.code, at_once.out) == (0, result.out), at_once.err
    assert contents(Path(at_once.out.strip())) == one_after_the_other == made(model, text)
    assert "to download, quantized as they arrive" in at_once.err
    assert [path.name for path in models.glob("[!.]*")] == [Path(result.out.strip()).name]
    hub.requests.clear()
    assert zaya("pull", REPO).code == 0  # all of it is in the cache
    assert not hub.contents_requested()
    assert zaya(*asked(text)).out == result.out
    assert not hub.contents_requested()


@both_layouts
@pytest.mark.parametrize("dense", ["int8", "int4"])
def test_discarded_originals_leave_the_same_result_and_nothing_else(zaya, hub, text, models, model, dense, monkeypatch):
    """And never take more of the disk than was computed before the first of them was fetched."""
    most, bound = 0, 0
    write = ShardWriter.write

    def measuring(self, *arguments):
        nonlocal most
        assert not deleted_but_mapped(models)
        write(self, *arguments)
        most = max(most, disk_used(models))

    def computing(job, steps):
        nonlocal bound
        needed = bytes_needed(job, steps)
        bound = disk_used(models) + needed
        return needed

    bring = Originals.bring

    def bringing(self, step):
        assert not deleted_but_mapped(models)
        bring(self, step)

    monkeypatch.setattr(Originals, "bring", bringing)
    monkeypatch.setattr(ShardWriter, "write", measuring)
    monkeypatch.setattr("zaya_core.quantize.run.bytes_needed", computing)
    result = zaya(*asked(text, "--dense", dense, "--discard-originals"))
    assert result.code == 0, result.err
    out = Path(result.out.strip())
    assert [path.name for path in models.glob("[!.]*")] == [out.name]
    assert not repo_folder().exists()
    assert sorted(weights_fetched(hub)) == NAMES  # each once
    slack = 200_000  # states of calibration, files of ends, and blocks that are not full
    assert most < bound + slack
    assert most < disk_used(model) + disk_used(out)
    assert contents(out) == made(model, text, dense)


class Cut(BaseException):
    """A stop that nobody handles."""


@both_layouts
@pytest.mark.parametrize("at", [40, 105, 150, 190])
def test_a_pull_cut_anywhere_goes_on_without_a_layer_or_a_discarded_file_again(
    zaya, hub, text, models, model, at, monkeypatch
):
    """Cut at the at-th tensor that is written, or file that is replaced by less of it."""
    steps = 0

    def cutting(function):
        def counted(*arguments):
            nonlocal steps
            steps += 1
            if steps > at:
                raise Cut
            return function(*arguments)

        return counted

    with monkeypatch.context() as broken:
        broken.setattr(ShardWriter, "write", cutting(ShardWriter.write))
        broken.setattr(originals, "write_reduced", cutting(write_reduced))
        broken.setattr(Originals, "_link", cutting(Originals._link))
        cut = zaya(*asked(text, "--discard-originals"))
    assert cut.code == 1 and steps > at
    finished = {path.name: path.stat().st_ino for path in models.glob("*.unfinished/*.safetensors")}
    unfinished = {name for name in NAMES if any(models.glob(f"*/files/blobs/{hub.checksum(name)}.*"))}
    fetched = set(weights_fetched(hub)) - unfinished
    hub.requests.clear()
    result = zaya(*asked(text, "--discard-originals"))
    assert result.code == 0, result.err
    out = Path(result.out.strip())
    assert finished.items() <= {path.name: path.stat().st_ino for path in out.iterdir()}.items()
    assert not fetched & set(weights_fetched(hub))
    assert contents(out) == made(model, text)
    assert [path.name for path in models.glob("[!.]*")] == [out.name]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_pull_ended_by_a_signal_goes_on(hub, text, models, model, start, number, code, monkeypatch):
    monkeypatch.undo()  # two processes must read the same ends of files
    hub.faults.held, hub.faults.held_after = f"/content/{NAMES[2]}", 100_000
    process = start(*asked(text, "--discard-originals")[2:])
    wait_until(lambda: hub.is_holding.is_set() and list(models.glob("*.unfinished/model-00001-*.safetensors")))
    process.send_signal(number)
    hub.faults.release.set()
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (code, ""), err
    assert "Traceback" not in err
    first = next(models.glob("*.unfinished/model-00001-*.safetensors")).stat().st_ino
    hub.faults.held = None
    hub.requests.clear()
    process = start(*asked(text, "--discard-originals")[2:])
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert (Path(out.strip()) / "model-00001-of-00005.safetensors").stat().st_ino == first
    assert NAMES[0] not in [request.path.removeprefix("/content/") for request in hub.contents_requested()]
    assert contents(Path(out.strip())) == made_afresh(model, text)


def test_a_second_pull_with_quant_and_a_removal_are_refused_and_the_first_goes_on(zaya, hub, text, models, start):
    hub.faults.held, hub.faults.held_after = f"/content/{NAMES[2]}", 100_000
    process = start(*asked(text, "--discard-originals")[2:])
    wait_until(lambda: hub.is_holding.is_set() and list(models.glob("*.unfinished/model-00001-*.safetensors")))
    second = zaya(*asked(text, "--discard-originals"))
    assert (second.code, second.out) == (2, "")
    assert f"Another zaya is downloading {REPO} (process {process.pid}): wait for it." in second.err
    for folder in models.glob("[!.]*"):
        removal = zaya("models", "rm", folder.name, "--yes")
        assert (removal.code, f"(process {process.pid})" in removal.err) == (2, True), removal.err
    hub.faults.release.set()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert [path.name for path in models.glob("[!.]*")] == [Path(out.strip()).name]


def snapshot_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_what_was_in_the_cache_is_read_there_and_stays(zaya, hub, text, models, model):
    assert zaya("pull", REPO).code == 0
    before = snapshot_of(repo_folder())
    hub.requests.clear()
    result = zaya(*asked(text, "--discard-originals"))
    assert result.code == 0, result.err
    assert snapshot_of(repo_folder()) == before
    assert not hub.contents_requested()
    assert contents(Path(result.out.strip())) == made(model, text)


def test_of_a_download_that_was_begun_the_finished_files_stay_and_the_others_do_not(zaya, hub, text, models, model):
    assert zaya("pull", REPO).code == 0
    for name in (NAMES[0], NAMES[3]):
        (repo_folder() / "blobs" / hub.checksum(name)).unlink()
    before = snapshot_of(repo_folder())
    hub.requests.clear()
    result = zaya(*asked(text, "--discard-originals"))
    assert result.code == 0, result.err
    assert snapshot_of(repo_folder()) == before
    assert sorted(weights_fetched(hub)) == [NAMES[0], NAMES[3]]
    assert contents(Path(result.out.strip())) == made(model, text)


def test_offline_quantizes_what_is_in_the_cache(zaya, hub, text, models, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    missing = zaya(*asked(text))
    assert (missing.code, missing.out) == (3, "")
    assert "HF_HUB_OFFLINE" in missing.err
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert zaya("pull", REPO).code == 0
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = zaya(*asked(text))
    assert result.code == 0, result.err
    shutil.rmtree(repo_folder())
    assert zaya(*asked(text)).out == result.out  # the only copy
    assert not hub.requests


@pytest.mark.parametrize(
    "flags", [["--discard-originals"], ["--dense", "int4"], ["--calibrate", "none"]], ids=lambda flags: flags[0]
)
def test_flags_of_quantization_without_quant_are_one_sentence(zaya, hub, flags):
    result = zaya("pull", REPO, *flags)
    assert (result.code, result.out) == (2, "")
    assert re.fullmatch(rf"zaya: {flags[0]} [^\n]*--quant[^\n]*[.]\n", result.err), result.err
    assert not hub.requests


def test_a_disk_without_room_is_said_before_any_weights_are_fetched(zaya, hub, text, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 40_000_000))
    result = zaya(*asked(text, "--discard-originals"))
    assert (result.code, result.out) == (4, "")
    assert re.search(r"needs 0\.05 GB more", result.err), result.err
    assert not weights_fetched(hub)


def test_without_holes_in_files_the_originals_come_first_and_cannot_be_discarded(zaya, hub, text, model, monkeypatch):
    monkeypatch.setattr("zaya_cli.commands.pulling.quantized.keeps_holes", lambda folder: False)
    refused = zaya(*asked(text, "--discard-originals"))
    assert (refused.code, refused.out) == (2, "")
    assert "sparse files" in refused.err.splitlines()[-1]
    result = zaya(*asked(text))
    assert result.code == 0, result.err
    assert contents(Path(result.out.strip())) == made(model, text)


def test_a_hub_that_sends_no_parts_is_one_sentence(zaya, hub, text):
    hub.faults.ignores_ranges = True
    result = zaya(*asked(text))
    assert (result.code, result.out) == (7, "")
    assert "comes only as a whole" in result.err.splitlines()[-1]


def test_parts_and_files_that_fail_are_asked_for_again(zaya, hub, text, model):
    hub.faults.statuses = [500, 503]
    hub.faults.drops = {NAMES[0]: [100], NAMES[1]: [2000, 5000, 10_000]}
    result = zaya(*asked(text, "--discard-originals"))
    assert result.code == 0, result.err
    assert contents(Path(result.out.strip())) == made(model, text)


def test_a_dry_run_says_what_the_disk_needs_and_writes_nothing(zaya, hub, tmp_path):
    result = zaya("pull", REPO, "--quant", "int4", "--discard-originals", "--dry-run")
    assert (result.code, result.err) == (0, "")
    assert "two of the original files at a time" in result.out
    assert not (tmp_path / "home").exists()
    assert not (tmp_path / "data").exists()


def test_an_unfinished_pull_is_listed_and_removed(zaya, hub, text, models):
    hub.faults.drops = {NAMES[2]: [0] * 100}
    assert zaya(*asked(text, "--discard-originals")).code == 7
    listed = zaya("models").out
    assert "files of an unfinished `zaya pull --quant`" in listed
    name = next(models.glob("*.originals")).name
    assert zaya("models", "rm", name, "--yes").code == 0
    assert not (models / name).exists()
