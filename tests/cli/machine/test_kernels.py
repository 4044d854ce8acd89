"""Who computes on a card is found out once, with one line, and said: at the start if it is torch, and by doctor."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.cli.machine.conftest import GOOD
from tests.core.kernel_choice import chosen_kernels
from tests.core.machine.simulated import AMD, AMD_LINUX, HOST_LINUX, NVIDIA, NVIDIA_LINUX, Card, Machine
from zaya_cli.machine.kernels import kernel_findings, prepare_kernels, report_declined
from zaya_core.errors import UsageError
from zaya_core.kernels import card_choice
from zaya_core.kernels.card_choice import choose_for, known_choice
from zaya_core.machine import kernel_check, kernel_verdict, triton_support
from zaya_core.machine.kernel_verdict import KernelFailure, Verdict, kept_verdict, verdicts_file

CARD = torch.device("cuda:0")
FAILED = replace(GOOD, passed=False, failed=(KernelFailure("int4 product", 0.31, 0.02),), graphs=False)
CHECKING = "zaya: checking its kernels on cuda:0 ({}), once for this driver and version (at most 3 minutes) ...\n"
NOTE = "cuda:0 ({}) computes with torch, not with zaya's kernels: {}; see `zaya doctor`."
DIFFERS = "int4 product differs from torch by 3e-01 (at most 2e-02 is right); checked on 2026-11-30"
RIGHT = "checked on this card on 2026-11-30, worst difference 3e-04"


def nvidia(*cards: Card, **changes: Any) -> Machine:
    cards = cards or (Card("GeForce"),)
    whole: dict[str, Any] = {"files": HOST_LINUX | NVIDIA_LINUX, "pci": (NVIDIA,), "cuda": "13.0", "cards": cards}
    return Machine(**(whole | changes))


def amd(gfx="gfx1100", **changes: Any) -> Machine:
    card = Card("Radeon", gfx=gfx)
    return nvidia(card, **({"files": HOST_LINUX | AMD_LINUX, "pci": (AMD,), "cuda": None, "hip": "7.1"} | changes))


@pytest.fixture
def on(entered, monkeypatch):
    """Enter a machine where nothing is known; a check finds `verdict`, and how often is noted."""

    def enter(machine, verdict=GOOD):
        entered(machine)
        monkeypatch.setattr(card_choice, "kept_verdict", kept_verdict)
        monkeypatch.setattr(kernel_verdict, "_found_here", {})
        asked = []

        def child(command, limit, report):
            asked.append(command[command.index("--device") + 1])
            report.note('{"doing": "int4 product"}')

        monkeypatch.setattr(kernel_check, "_run", child)
        monkeypatch.setattr(kernel_check, "_verdict", lambda report, fault, seconds: verdict)
        return asked

    return enter


def in_another_process():
    kernel_verdict._found_here.clear()


def found(device="auto", may_check=False):
    """What doctor says of the card."""
    findings = list(kernel_findings(device, may_check))
    return [(finding.text, finding.state) for finding in findings if not finding.text.startswith("CPU: ")]


def test_a_card_is_checked_once_with_a_line_and_computes_with_zayas_kernels(on, capsys):
    asked = on(nvidia())
    assert found() == [
        ("cuda:0: not known yet (zaya's kernels are checked on this card when a model is first loaded there)", "note")
    ]
    prepare_kernels("cuda:0", "auto")
    assert capsys.readouterr().err == CHECKING.format("GeForce")
    in_another_process()
    prepare_kernels("cuda:0", "auto")
    assert capsys.readouterr().err == ""
    assert asked == ["cuda:0"]
    assert choose_for(CARD) == card_choice.CardChoice("triton", f"{RIGHT}; graphs on", graphs=True)
    assert found() == [
        (f"cuda:0: triton ({RIGHT}; graphs on)", "ok"),
        (f"cuda:0 (GeForce) was checked in 21 s: delete {verdicts_file()} to check again", "ok"),
    ]
    verdicts_file().unlink()
    in_another_process()
    assert found(may_check=True)[0] == (f"cuda:0: triton ({RIGHT}; graphs on)", "ok")
    assert asked == ["cuda:0", "cuda:0"]


def test_the_card_that_is_meant_is_checked(on):
    asked = on(nvidia(Card("one"), Card("two")))
    prepare_kernels("cuda:1", "auto")
    prepare_kernels("cpu", "auto")
    prepare_kernels("auto", "auto")
    assert asked == ["cuda:1"]
    assert found("cuda:0")[0][0].startswith("cuda:0: not known yet")


def test_a_failed_kernel_is_named_with_its_difference(on, capsys):
    on(nvidia(), FAILED)
    note = f"zaya: {NOTE.format('GeForce', DIFFERS)}\n"
    prepare_kernels("cuda:0", "auto")
    assert capsys.readouterr().err == CHECKING.format("GeForce") + note
    in_another_process()
    prepare_kernels("cuda:0", "auto")
    assert capsys.readouterr().err == note
    assert found()[:2] == [
        (f"cuda:0: torch ({DIFFERS})", "note"),
        ("cuda:0 (GeForce): int4 product differs from torch by 3e-01 (at most 2e-02 is right)", "note"),
    ]


MISSING = {
    "compiler": (
        nvidia(programs=("apt",)),
        "a C compiler, which Triton needs, is missing: type `sudo apt install gcc`",
    ),
    "headers": (
        nvidia(has_headers=False),
        "Python's headers (Python.h), which Triton needs, are missing: type `sudo apt install python3.11-dev`",
    ),
    "Triton": (
        nvidia(has_triton=False),
        "Triton, which compiles them, is not installed: type `pip install triton==3.7.1`",
    ),
    "Windows": (
        nvidia(platform="win32", files={"Windows/System32/nvcuda.dll": ""}, pci=(), has_triton=False),
        "Triton, which compiles them, is not installed: type `pip install triton-windows`",
    ),
    "Turing": (
        nvidia(Card("GeForce", capability=(7, 5))),
        "Triton supports NVIDIA cards from compute capability 8.0 on, and this has 7.5: nothing to do",
    ),
    "RDNA2": (amd("gfx1031"), "Triton supports neither RDNA2 nor older cards, and this is gfx1031: nothing to do"),
}


@pytest.mark.parametrize(("machine", "why"), MISSING.values(), ids=MISSING)
def test_what_is_missing_is_said_at_each_start_and_by_doctor_and_nothing_is_checked(on, capsys, machine, why):
    asked = on(machine)
    name = machine.cards[0].name
    for _ in range(2):
        prepare_kernels("cuda:0", "auto")
        assert capsys.readouterr().err == f"zaya: {NOTE.format(name, why)}\n"
    assert found(may_check=True) == [(f"cuda:0: torch ({why})", "note")]
    assert asked == []


FAULTS = {
    "crashed": (
        Verdict(False, fault="the check of attention crashed (signal 11, SIGSEGV)", day="2026-11-30"),
        "the check of attention crashed (signal 11, SIGSEGV); checked on 2026-11-30",
    ),
    "hung": (
        Verdict(False, fault="the check of attention took more than 90 seconds and was ended", day="2026-11-30"),
        "the check of attention took more than 90 seconds and was ended; checked on 2026-11-30",
    ),
    "full": (
        Verdict(False, fault="CUDA out of memory. Tried to allocate 2.00 GiB", counts=False),
        "they could not be checked now: CUDA out of memory. Tried to allocate 2.00 GiB",
    ),
}


@pytest.mark.parametrize(("verdict", "why"), FAULTS.values(), ids=FAULTS)
def test_a_check_that_came_to_no_end_is_said(on, capsys, verdict, why):
    asked = on(nvidia(), verdict)
    prepare_kernels("cuda:0", "auto")
    assert capsys.readouterr().err == CHECKING.format("GeForce") + f"zaya: {NOTE.format('GeForce', why)}\n"
    assert found()[0] == (f"cuda:0: torch ({why})", "note")
    choose_for(CARD)
    assert len(asked) == 1
    in_another_process()
    choose_for(CARD)
    assert len(asked) == 1 + (not verdict.counts)


def test_where_no_verdict_can_be_kept_that_is_said(on, capsys, tmp_path):
    on(nvidia())
    (tmp_path / "cache").touch()
    prepare_kernels("cuda:0", "auto")
    unkept = f"nothing can be kept in {verdicts_file()} (Not a directory)"
    assert capsys.readouterr().err == CHECKING.format("GeForce") + (
        f"zaya: the check of zaya's kernels is repeated at every start: {unkept}.\n"
    )
    assert found()[1] == (f"{unkept}: they are checked at every start", "note")


def test_a_cache_of_tritons_that_cannot_be_written_is_named_by_doctor(on, tmp_path):
    on(nvidia())
    (tmp_path / "root/home").write_text("")
    prepare_kernels("cuda:0", "auto")
    assert found()[-1] == (
        f"nothing can be written into {tmp_path}/root/home/.triton/cache, where Triton keeps what it has compiled: "
        f"{tmp_path}/cache/zaya/triton is taken",
        "ok",
    )


UNVERIFIED = "cuda:0 replays recorded graphs (not verified on ROCm): if answers are wrong, use --graphs off."
OTHER_TOKENS = "replay 1 chose another token at position 3"


@pytest.mark.parametrize(
    ("machine", "verdict", "graphs", "is_on", "said", "notes"),
    [
        (nvidia(), GOOD, "auto", True, "graphs on", ()),
        (nvidia(), GOOD, "on", True, "graphs on", ()),
        (nvidia(), GOOD, "off", False, "graphs off (asked for)", ()),
        (amd(), replace(GOOD, graphs=False), "auto", False, "graphs off (not verified on ROCm)", ()),
        (amd(), replace(GOOD, graphs=False), "on", True, "graphs on (not verified on ROCm)", (UNVERIFIED,)),
        (amd(), replace(GOOD, graphs=False), "off", False, "graphs off (asked for)", ()),
        (
            nvidia(), replace(GOOD, graphs=False, graphs_fault=OTHER_TOKENS), "auto", False,
            f"graphs off ({OTHER_TOKENS})", (),
        ),
    ],
)  # fmt: skip
def test_graphs_are_replayed_where_that_was_checked_or_is_wanted(on, machine, verdict, graphs, is_on, said, notes):
    on(machine, verdict)
    choice = choose_for(CARD, graphs)
    assert (choice.graphs, choice.reason, choice.notes) == (is_on, f"{RIGHT}; {said}", notes)


def test_graphs_mean_nothing_where_torch_computes(on):
    on(nvidia(), FAILED)
    assert choose_for(CARD, "on").notes == (
        NOTE.format("GeForce", DIFFERS),
        "--graphs on does nothing here: torch computes.",
    )


@pytest.mark.parametrize(
    ("name", "verdict", "is_said"), [("torch", GOOD, True), ("triton", GOOD, False), ("torch", FAILED, False)]
)
def test_a_model_that_the_kernels_decline_is_said(on, capsys, name, verdict, is_said):
    on(nvidia(), verdict)
    choose_for(CARD)
    model: Any = SimpleNamespace(device=CARD, steps=SimpleNamespace(name=name, reason="experts are nf4"))
    report_declined(model)
    said = "zaya: cuda:0 computes this model with torch, not with zaya's kernels: experts are nf4.\n"
    assert capsys.readouterr().err == said * is_said


@pytest.mark.parametrize("wanted", ["torch", "reference", "triton"])
def test_what_a_person_asks_for_is_taken_without_a_check(on, monkeypatch, capsys, wanted):
    asked = on(nvidia(), FAILED)
    monkeypatch.setenv("ZAYA_KERNELS", wanted)
    prepare_kernels("cuda:0", "auto")
    assert (capsys.readouterr().err, asked) == ("", [])
    choice = known_choice(CARD)
    assert choice.uses_kernels == (wanted == "triton")
    assert choice.reason.startswith(f"ZAYA_KERNELS={wanted}")


@pytest.mark.parametrize("wanted", ["bogus", "torch:avx2", "reference:"])
def test_what_nobody_offers_is_refused_before_anything_is_checked(on, monkeypatch, wanted):
    asked = on(nvidia())
    with chosen_kernels(wanted), pytest.raises(UsageError, match=f"^ZAYA_KERNELS={wanted}: use auto, torch, "):
        prepare_kernels("cuda:0", "auto")
    assert asked == []


@pytest.mark.parametrize(
    ("machine", "lacking"),
    [
        (nvidia(has_triton=False), "Triton, which compiles them, is not installed: type `pip install triton==3.7.1`"),
        (nvidia(programs=("apt",)), "a C compiler, which Triton needs, is missing: type `sudo apt install gcc`"),
    ],
)
def test_kernels_that_are_asked_for_and_cannot_be_compiled_are_refused(on, monkeypatch, machine, lacking):
    on(machine)
    monkeypatch.setenv("ZAYA_KERNELS", "triton")
    with pytest.raises(UsageError) as raised:
        prepare_kernels("cuda:0", "auto")
    assert str(raised.value) == f"ZAYA_KERNELS=triton asks for zaya's kernels: {lacking}."


def test_the_interpreter_is_refused_where_it_is_not_installed(monkeypatch):
    monkeypatch.setenv("ZAYA_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(triton_support, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"^ZAYA_KERNELS=triton asks for zaya's kernels: Triton, which"):
        choose_for(torch.device("cpu"))


def test_a_cpu_has_no_kernels_of_triton_outside_of_its_interpreter(monkeypatch):
    cpu = torch.device("cpu")
    assert not choose_for(cpu).uses_kernels
    monkeypatch.setenv("ZAYA_KERNELS", "triton")
    assert choose_for(cpu).uses_kernels
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(UsageError) as raised:
        choose_for(cpu)
    assert str(raised.value) == (
        "ZAYA_KERNELS=triton computes on a card, and this is the CPU: use --device cuda, or for tests "
        "TRITON_INTERPRET=1."
    )
