"""`zaya bench` measures every case that is asked for, in four forms, and refuses what cannot be measured."""

from __future__ import annotations

import csv
import json

import pytest
from typer.testing import CliRunner

from zaya_cli.app import app
from zaya_cli.models.folder import BUNDLED
from zaya_core.cache.step import CacheStep
from zaya_core.load import load_model
from zaya_core.machine.bandwidth import BYTES
from zaya_core.measure.bench import Bench
from zaya_core.measure.dummy import dummy_model
from zaya_core.model.model import ZayaModel

SMALL = ["bench", "--model", "demo", "-p", "8", "-n", "3", "-d", "0,5", "-b", "1,2", "-r", "2", "--threads", "1"]


def run(*words):
    return CliRunner().invoke(app, list(words))


@pytest.mark.usefixtures("quickly_read")
def test_every_case_is_measured_and_the_forms_agree():
    whole = json.loads(run(*SMALL, "--format", "json").stdout)
    cases = [(row["kind"], row["sampling"], row["batch"], row["depth"]) for row in whole["results"]]
    kinds = [("prefill", False), ("decode", False), ("decode", True)]
    assert cases == [(*kind, batch, depth) for depth in (0, 5) for batch in (1, 2) for kind in kinds]
    assert all(row["tokens_per_second"] > 0 for row in whole["results"])
    assert {"machine", "model", "peak_memory_bytes"} <= whole.keys()
    facts, *lines = map(json.loads, run(*SMALL, "--format", "jsonl").stdout.splitlines())
    assert [line.keys() for line in lines] == [row.keys() for row in whole["results"]]
    assert facts["model"] == whole["model"]
    rows = list(csv.DictReader(run(*SMALL, "--format", "csv").stdout.splitlines()))
    assert len(rows) == len(cases)
    assert run(*SMALL).stdout.count("| decode 3, sampling |") == 4


@pytest.mark.parametrize("flags", [("-p", "many"), ("-b", "0"), ("-r", "0"), ("-d", "")])
def test_what_cannot_be_measured_is_refused(flags):
    done = run("bench", "--model", "demo", *flags)
    assert done.exit_code == 2


@pytest.mark.parametrize(
    ("experts", "dense"),
    [("bf16", "bf16"), ("int8", "int8"), ("int4", "int4"), ("nf4", "int8"), ("fp8", "bf16"), ("mxfp4", "bf16")],
)
def test_random_weights_spread_rows_over_the_experts_in_every_format(experts, dense):
    if experts == "nf4":
        pytest.importorskip("bitsandbytes")
    model = dummy_model(experts, dense, layers=1)
    assert model.config.hidden_size == 2048
    case = Bench(model, repeats=1).decode(4, batch=8, depth=0)
    assert 5 < case.distinct_experts <= 8  # 6.4 on average, were they drawn
    assert case.bytes_per_step > model.steps.step_bytes(case.distinct_experts) > model.steps.step_bytes(0) > 10**8


@pytest.mark.usefixtures("quickly_read")
def test_random_weights_that_use_too_few_experts_are_an_error_after_the_figures(monkeypatch):
    from zaya_cli.commands import bench, bench_model

    monkeypatch.setattr(bench_model, "dummy_model", lambda *_, **__: load_model(BUNDLED / "demo", device="cpu"))
    monkeypatch.setattr(bench, "_LEAST_EXPERTS_AT_8", 9.0)
    done = run("bench", "--dummy", "-p", "0", "-n", "2", "-b", "8", "-r", "1", "--threads", "1")
    assert done.exit_code == 1
    assert "| decode 2, sampling | 8 |" in done.stdout
    assert "too few experts (9 or more are real)" in done.stdout


def test_two_gigabytes_are_read_at_least_ten_times_between_the_repeats(monkeypatch):
    passes: list[int] = []

    def read_bandwidth(block, count):
        assert block.nbytes == BYTES >= 2e9
        passes.append(count)
        return 1e9

    monkeypatch.setattr("zaya_core.measure.bench.read_bandwidth", read_bandwidth)
    bench = Bench(load_model(BUNDLED / "demo", device="cpu"))
    for repeats in (1, 3, 5, 20):
        passes.clear()
        bench.repeats = repeats
        bench.measure(bench.decode(1, batch=1, depth=0))
        assert len(passes) == repeats
        assert sum(passes) >= 10


@pytest.mark.parametrize(("depth", "batch"), [(1, 1), (300, 2), (512, 1), (700, 1), (700, 2), (1024, 1)])
def test_a_case_begins_at_its_depth_every_time_it_runs(depth, batch, monkeypatch):
    case = Bench(load_model(BUNDLED / "demo", device="cpu")).decode(2, batch=batch, depth=depth)
    seen: list[list[int]] = []
    begin = CacheStep.begin

    def noting(cache, columns, new_lengths=None):
        seen.append(list(cache.row_lengths))
        return begin(cache, columns, new_lengths)

    monkeypatch.setattr(CacheStep, "begin", noting)
    case.run()
    case.run()
    assert seen == [[depth] * batch, [depth + 1] * batch] * 2


@pytest.mark.usefixtures("quickly_read")
def test_prompts_are_measured_in_the_chunks_that_the_device_takes(monkeypatch):
    model = load_model(BUNDLED / "demo", device="cpu")
    widths: list[int] = []
    call = ZayaModel.__call__

    def noted(self, ids, *rest, **more):
        widths.append(ids.shape[1])
        return call(self, ids, *rest, **more)

    monkeypatch.setattr(ZayaModel, "__call__", noted)
    monkeypatch.setattr("zaya_core.machine.watchdog.has_watchdog", lambda device: True)
    Bench(model, repeats=1).prefill(600, 1, 300).run()
    assert widths == [256, 256, 256, 256, 88]  # the depth, a warm-up, and 600
