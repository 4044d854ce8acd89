"""`zaya bench` measures every case that is asked for, in four forms, and refuses what cannot be measured."""

from __future__ import annotations

import csv
import json

import pytest
from typer.testing import CliRunner

from zaya_cli.app import app
from zaya_core.bench import Bench
from zaya_core.dummy import dummy_model

SMALL = ["bench", "--model", "demo", "-p", "8", "-n", "3", "-d", "0,5", "-b", "1,2", "-r", "2", "--threads", "1"]


def run(*words):
    return CliRunner().invoke(app, list(words))


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


@pytest.mark.parametrize(("experts", "dense"), [("bf16", "bf16"), ("int8", "int8"), ("int4", "int4")])
def test_random_weights_spread_rows_over_the_experts(experts, dense):
    model = dummy_model(experts, dense, layers=1)
    assert model.config.hidden_size == 2048
    measured = Bench(model, repeats=1).decode(4, batch=8, depth=0)
    assert 5 < measured.distinct_experts <= 8  # 6.4 on average, were they drawn
    whole = model.blocks[0].experts.gate_up_proj.nbytes / 16 * measured.distinct_experts + model.lm_head.nbytes
    assert measured.bytes_per_step > whole
