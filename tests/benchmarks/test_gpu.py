"""The benchmark that a stranger runs on a card: whatever fails, its table has what was measured before."""

from __future__ import annotations

import json

import pytest

from benchmarks import gpu
from zaya_core.errors import UsageError


@pytest.fixture
def printed(monkeypatch, capsys):
    """What it prints where these stages, by name, are all there are."""

    def run(stages, *arguments):
        monkeypatch.setattr(gpu, "_stages", lambda device, layers: iter(stages.items()))
        monkeypatch.setattr("sys.argv", ["gpu", "--device", "cpu", *arguments])
        gpu.main()
        return capsys.readouterr().out.splitlines()

    return run


def raises(error):
    def stage(figures):
        raise error

    return stage


def right(figures):
    figures.note("int4, 1 row", 100.0, 0.5)


FAILURES = {
    "int8": (RuntimeError("CUDA out of memory\nhints"), "int8 fails: RuntimeError: CUDA out of memory"),
    "triton": (type("CompilationError", (Exception,), {})(), "triton fails: CompilationError: CompilationError"),
    "transformers": (
        ImportError("cannot import name 'ZayaConfig'"),
        "transformers fails: ImportError: cannot import name 'ZayaConfig'",
    ),
}


def test_stages_that_fail_are_named_and_the_rest_goes_on(printed):
    lines = printed({**{name: raises(error) for name, (error, _) in FAILURES.items()}, "int4": right})
    assert [line for line in lines if " fails: " in line] == [said for _, said in FAILURES.values()]
    assert "| int4, 1 row | 100 | 50% |" in lines
    assert json.loads(lines[-1])["figures"] == [{"what": "int4, 1 row", "tokens_per_second": 100.0, "share": 0.5}]


def test_ctrl_c_prints_the_table_so_far(printed):
    lines = printed({"int4": right, "transformers": raises(KeyboardInterrupt()), "int8": right})
    assert lines.count("| int4, 1 row | 100 | 50% |") == lines.count("stopped") == 1


def test_what_there_is_no_time_for_is_named(printed):
    lines = printed({"int4": right, "int8": right}, "--minutes", "0")
    assert "no time was left for: int4; int8" in lines


def test_kernels_that_nobody_offers_are_refused_in_a_sentence(printed, monkeypatch, capsys):
    def refused():
        raise UsageError("ZAYA_KERNELS=bogus: use auto.")

    monkeypatch.setattr(gpu, "products_in_use", refused)
    with pytest.raises(SystemExit):
        printed({})
    assert "error: ZAYA_KERNELS=bogus: use auto." in capsys.readouterr().err
