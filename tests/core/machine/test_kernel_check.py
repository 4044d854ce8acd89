"""A stranger's card: kernels that are wrong, crash, hang or find no memory are seen by a child process and survived."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import date

import psutil
import pytest
import torch

from tests.core.machine import planted
from tests.core.machine.planted import checks
from zaya_core.files.sealed_json import sealed, unsealed
from zaya_core.machine import kernel_check, kernel_verdict
from zaya_core.machine.gpus import Gpu
from zaya_core.machine.kernel_check import checked
from zaya_core.machine.kernel_verdict import KernelFailure, Verdict, keep_verdict, kept_verdict, verdicts_file
from zaya_core.measure.card_check import __main__ as program
from zaya_core.measure.card_check.check import Outcome

GPU = Gpu("GeForce RTX 3060", 12, 10, (8, 6))
TODAY = date.today().isoformat()
GOOD = Verdict(True, worst=3e-4, graphs=True, seconds=21.0, day="2026-11-30")


@pytest.fixture(autouse=True)
def _new_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_verdict, "_found_here", {})


@pytest.fixture
def plant(monkeypatch):
    """Check with a program of `planted/`."""

    def plant(program, fault="", limit=60.0, on_progress=lambda text: None):
        monkeypatch.setattr(kernel_check, "_MODULE", f"{planted.__name__}.{program}")
        monkeypatch.setenv("ZAYA_PLANTED", fault)
        return checked(GPU, limit, on_progress)

    return plant


WRONG = f"the planted one differs from torch by 3e-01 (at most 2e-02 is right); checked on {TODAY}"
CRASHED = f"the check of the planted one crashed (signal 6, SIGABRT: LLVM ERROR: Cannot select); checked on {TODAY}"


@pytest.mark.processes
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("fault", "sentence"), [("wrong", WRONG), ("crashes", CRASHED)])
def test_what_a_kernel_does_wrong_is_said_and_kept(plant, fault, sentence):
    told: list[str] = []
    verdict = plant("checks", fault, on_progress=told.append)
    assert (verdict.passed, verdict.sentence, verdict.graphs_fault) == (False, sentence, None)
    assert told == ["the card", "the start of Triton", "a product", "the planted one"]
    in_another_process()
    assert kept_verdict(GPU) == verdict


@pytest.fixture
def report(monkeypatch, capsys):
    """The verdict on what the check says of a planted kernel, in this process."""

    def report(fault):
        monkeypatch.setenv("ZAYA_PLANTED", fault)
        monkeypatch.setattr(program, "_checks", checks.checks)

        def child(command, limit, report):
            program.main(["--device", "cpu"])
            for line in capsys.readouterr().out.splitlines():
                report.note(line)

        monkeypatch.setattr(kernel_check, "_run", child)
        return checked(GPU)

    return report


def test_kernels_that_are_right_pass(report):
    verdict = report("nothing")
    assert (verdict.passed, verdict.failed, verdict.graphs) == (True, (), False)
    assert verdict.sentence == f"checked on this card on {TODAY}, worst difference 1e-03"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("nan", f"the planted one differs from torch by inf (at most 2e-02 is right); checked on {TODAY}"),
        (
            "raises",
            "the planted one fails (RuntimeError: CUDA error: an illegal memory access was encountered); checked on "
            f"{TODAY}",
        ),
    ],
)
def test_what_is_no_number_and_what_raises_have_failed(report, fault, sentence):
    assert report(fault).sentence == sentence


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("full", "CUDA out of memory. Tried to allocate 2.00 GiB"),
        ("full for the driver", "Triton Error [CUDA]: out of memory"),
        ("full disk", "[Errno 28] No space left on device"),
    ],
)
def test_where_there_is_no_memory_nothing_is_known(report, fault, said):
    verdict = report(fault)
    assert (verdict.passed, verdict.counts) == (False, False)
    assert verdict.sentence == f"they could not be checked now: {said}"
    assert kept_verdict(GPU) == verdict
    in_another_process()
    assert kept_verdict(GPU) is None


@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        ("_checks", ImportError("libtriton.so: cannot open"), "ImportError: libtriton.so: cannot open"),
        (
            "_start_triton",
            AssertionError("libcuda.so cannot found!\nhints"),
            "AssertionError: libcuda.so cannot found!",
        ),
        (
            "_start_triton",
            RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nhints"),
            "the card is set to serve one process at a time: type `sudo nvidia-smi -c DEFAULT`",
        ),
    ],
)
def test_what_keeps_triton_from_starting_is_no_fault_of_the_kernels(monkeypatch, capsys, place, error, said):
    def broken(*_):
        raise error

    monkeypatch.setattr(program, "_checks", lambda folder: [])
    monkeypatch.setattr(program, place, broken)
    program.main(["--device", "cpu"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"unchecked": said}


def test_a_graph_that_raises_is_named_and_the_kernels_stay_in_use(monkeypatch, capsys):
    def broken(device):
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nhints")

    monkeypatch.setattr("zaya_core.measure.card_check.tokens.graphs_fault", broken)
    monkeypatch.setattr(program, "outcome_of", lambda checks, device: Outcome((), 3e-4))
    program._run([], torch.device("cuda"))
    result = json.loads(capsys.readouterr().out.splitlines()[-1])["result"]
    assert result["graphs_fault"] == "RuntimeError: CUDA error: operation not permitted when stream is capturing"
    assert (result["failed"], result["graphs"]) == ([], False)


def test_torch_multiplies_exactly_whatever_the_machine_asks_for(monkeypatch):
    seen: list[str] = []

    def noting(folder):
        seen.append(torch.get_float32_matmul_precision())
        return []

    monkeypatch.setattr(program, "_checks", noting)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")  # as TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 does
    try:
        program.main(["--device", "cpu"])
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["highest"]


def descendants():
    return psutil.Process().children(recursive=True)


@pytest.mark.processes
def test_a_check_that_hangs_is_ended_with_all_that_it_has_started(plant):
    before = set(descendants())
    verdict = plant("hanging", limit=4.0)
    assert (
        verdict.sentence == f"the check of the planted one took more than 2 seconds and was ended; checked on {TODAY}"
    )
    assert not psutil.wait_procs(set(descendants()) - before, timeout=5)[1]


def test_a_machine_that_is_slow_at_all_of_it_goes_on_at_the_next_start():
    report = kernel_check._Report()
    report.note('{"doing": "a product"}')
    assert kernel_check._why_too_long(180.0, report) is None
    verdict = kernel_check._verdict(report, None, 180.0)
    why = "it takes more than 180 seconds, and the next start goes on with what is compiled"
    assert (verdict.counts, verdict.sentence) == (False, f"they could not be checked now: {why}")


@pytest.mark.processes
def test_ctrl_c_ends_the_check(plant):
    before = set(descendants())
    started: list[psutil.Process] = []

    def interrupt(doing):
        started.extend(set(descendants()) - before)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plant("hanging", on_progress=interrupt)
    assert len(started) == 2
    assert not psutil.wait_procs(started, timeout=5)[1]
    assert kept_verdict(GPU) is None


@pytest.mark.processes
def test_a_check_ends_with_the_process_that_asked_for_it_even_when_that_is_killed(monkeypatch, tmp_path):
    """All that it notices then is the end of its standard input."""
    monkeypatch.setattr(kernel_check, "_MODULE", f"{planted.__name__}.hanging")
    command = kernel_check._command("cpu", 60.0)
    with (tmp_path / "errors").open("wb") as errors, kernel_check._started(command, errors, {}) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        started = psutil.Process(process.pid).children()
        process.stdin.close()
        process.wait(10)
    assert len(started) == 1
    assert not psutil.wait_procs(started, timeout=5)[1]


def test_a_graph_that_fails_is_no_fault_of_the_kernels(monkeypatch):
    def child(command, limit, report):
        report.note('{"doing": "a product"}')
        report.note("what a library prints")
        report.note('[1] {"result"')
        report.note('{"result": {"failed": [], "worst": 0.0003, "graphs": false, "graphs_fault": null}}')
        return "the check of the recorded step as a graph crashed (signal 11, SIGSEGV)"

    monkeypatch.setattr(kernel_check, "_run", child)
    verdict = checked(GPU)
    assert (verdict.passed, verdict.worst, verdict.graphs) == (True, 3e-4, False)
    assert verdict.graphs_fault == "the check of the recorded step as a graph crashed (signal 11, SIGSEGV)"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([], "the check ended without a result"),
        (['{"result": {"failed": 1, "worst": 0.1}}'], "the check said something else than a result"),
        (['{"result": {"failed": [{"kern": 1}], "worst": 0.1}}'], "the check said something else than a result"),
        (['{"result": {"failed": [], "worst": null}}'], "the check said something else than a result"),
    ],
)
def test_what_is_no_result_is_none(monkeypatch, lines, sentence):
    def child(command, limit, report):
        for line in lines:
            report.note(line)

    monkeypatch.setattr(kernel_check, "_run", child)
    verdict = checked(GPU)
    assert (verdict.passed, verdict.sentence) == (False, f"{sentence}; checked on {TODAY}")


def test_without_an_interpreter_to_start_nothing_is_found_out(monkeypatch):
    monkeypatch.setattr(kernel_check, "can_have_children", lambda: False)
    assert checked(GPU).sentence == ("they could not be checked now: there is no Python interpreter to check them with")


def in_another_process():
    kernel_verdict._found_here.clear()


def test_a_verdict_counts_for_one_card_driver_and_version(monkeypatch):
    keep_verdict(GPU, GOOD)
    in_another_process()
    assert kept_verdict(GPU) == GOOD
    radeon = replace(GPU, capability=None, gfx="gfx1030")
    for other in (replace(GPU, name="GeForce RTX 4060"), replace(GPU, capability=(8, 9)), radeon):
        assert kept_verdict(other) is None
    keep_verdict(radeon, GOOD)
    for target, name, value in (
        ("zaya_core.machine.kernel_verdict", "driver_and_build", lambda: "CUDA 13.1"),
        ("zaya_core.machine.kernel_verdict", "triton_version", lambda: "9.9"),
        ("zaya_core.machine.kernel_verdict", "_fingerprint", lambda: "others"),
        ("torch", "__version__", "9.9"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"{target}.{name}", value)
            assert kept_verdict(GPU) is None
    monkeypatch.setenv("HSA_OVERRIDE_GFX_VERSION", "10.3.0")
    assert kept_verdict(radeon) is None
    monkeypatch.delenv("HSA_OVERRIDE_GFX_VERSION")
    assert kept_verdict(radeon) == GOOD


def test_a_changed_kernel_is_checked_anew(monkeypatch, tmp_path):
    (tmp_path / "kernels/triton").mkdir(parents=True)
    (tmp_path / "kernels/triton/gemv.py").write_text("x = 1\n")
    monkeypatch.setattr("quant.__file__", str(tmp_path / "__init__.py"))
    before = kernel_verdict._fingerprint.__wrapped__()
    assert kernel_verdict._fingerprint.__wrapped__() == before
    (tmp_path / "kernels/triton/gemv.py").write_text("x = 2\n")
    assert kernel_verdict._fingerprint.__wrapped__() != before


def test_a_damaged_file_is_as_if_it_were_not_there():
    failed = replace(GOOD, passed=False, failed=(KernelFailure("a product", 0.3, 0.02),))
    keep_verdict(GPU, failed)
    whole = verdicts_file().read_bytes()
    in_another_process()
    assert kept_verdict(GPU) == failed
    for damaged in (b"", b"{}", whole[:-20], whole.replace(b'"passed": false', b'"passed": true'), b"[1]"):
        verdicts_file().write_bytes(damaged)
        assert kept_verdict(GPU) is None
    (entry,) = unsealed(whole)["verdicts"]
    unnamed = {"kernel": 1, "difference": 0.3, "tolerance": 0.1, "error": None}
    changes: list[dict[str, object]] = [
        {"passed": True}, {"passed": 0}, {"failed": []}, {"failed": [{}]}, {"failed": [unnamed]}, {"worst": None},
        {"day": 3}, {"more": 1},
    ]  # fmt: skip
    for change in changes:
        verdicts_file().write_bytes(sealed({"verdicts": [{**entry, **change}]}))
        assert kept_verdict(GPU) is None, change
    keep_verdict(GPU, GOOD)
    in_another_process()
    assert kept_verdict(GPU) == GOOD


def test_no_more_verdicts_are_kept_than_a_person_has_cards():
    for number in range(70):
        keep_verdict(replace(GPU, name=f"card {number}"), GOOD)
    in_another_process()
    assert len(unsealed(verdicts_file().read_bytes())["verdicts"]) == 64
    assert kept_verdict(replace(GPU, name="card 5")) is None
    assert kept_verdict(replace(GPU, name="card 69")) == GOOD


def test_where_nothing_can_be_kept_that_is_said_and_the_process_remembers(monkeypatch, tmp_path):
    (tmp_path / "cache").write_text("")
    verdict = keep_verdict(GPU, GOOD)
    assert verdict.unkept == f"nothing can be kept in {verdicts_file()} (Not a directory)"
    assert kept_verdict(GPU) == verdict
    in_another_process()
    assert kept_verdict(GPU) is None


def test_many_failures_are_counted():
    failed = tuple(KernelFailure(f"kernel {number}", 0.5, 0.02) for number in range(5))
    assert Verdict(False, failed, day="2026-11-30").sentence == (
        "kernel 0 differs from torch by 5e-01 (at most 2e-02 is right), kernel 1 differs from torch by 5e-01 (at most "
        "2e-02 is right), kernel 2 differs from torch by 5e-01 (at most 2e-02 is right), 2 more; checked on 2026-11-30"
    )
