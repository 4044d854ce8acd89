"""`--device auto` takes the CPU where it is faster than the card, measured once for each format and machine."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace

import pytest
import torch

from tests.core.machine.simulated import GB, HOST_LINUX, NVIDIA, NVIDIA_LINUX, Card, Machine
from zaya_cli import runtime
from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.machine import speeds
from zaya_cli.machine.device_report import device_findings
from zaya_cli.machine.speeds import SpeedRecord
from zaya_cli.user_files import speeds_file
from zaya_core.files.sealed_json import sealed, unsealed
from zaya_core.machine.device import Speeds, choose_device
from zaya_core.machine.gpus import visible_gpus
from zaya_core.measure import cpu_or_card
from zaya_core.measure.cpu_or_card import Trial

GAMING = Machine(files=HOST_LINUX | NVIDIA_LINUX, pci=(NVIDIA,), cuda="13.0", cards=(Card("GeForce RTX 3060"),))
LABEL = "cuda:0 (GeForce RTX 3060)"
RATES = "20.0 against 12.0 tokens/s, estimated with a twentieth of ZAYA1-8B"
MEASURING = f"zaya: measuring once which of CPU and {LABEL} is faster for bf16 ...\n"
ON_CPU = f"zaya: computing on the CPU: it is faster here than {LABEL} ({RATES}); --device cuda takes the card.\n"
ASK = ("run", "-p", "1+1", "-m", "demo", "-n", "2", "-q")
INT4 = Trial("int4", "int8")


WRONG: list[tuple[str, object]] = [
    *(("cpu", value) for value in (math.nan, math.inf, -1.0, "12", True, None)),
    *(("trial", value) for value in (["int4"], [["int4"], "int8", 1], "int4", ["int4", "int8", True], [])),
    ("machine", {}),
]


@pytest.fixture
def measured(monkeypatch):
    """What is measured: (trial, device) each time; and by device the rate, or what is raised."""
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)

    def rates(**by_device):
        def rate(trial, device):
            asked.append((trial, device))
            found = by_device[device.partition(":")[0]]
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(cpu_or_card, "decode_rate", rate)
        return asked

    return rates


def record(threads=2):
    return SpeedRecord(visible_gpus()[0], threads)


def test_the_cpu_is_taken_where_it_is_faster_with_one_line_and_measured_once(zaya, entered, measured):
    entered(GAMING)
    asked = measured(cuda=12.0, cpu=20.0)
    first, second = zaya(*ASK), zaya(*ASK)
    assert (first.code, first.err) == (0, MEASURING + ON_CPU)
    assert (second.code, second.err) == (0, ON_CPU)
    assert first.out == second.out
    assert asked == [(("bf16", "bf16", 1), "cuda:0"), (("bf16", "bf16", 1), "cpu")]
    (kept,) = unsealed(speeds_file().read_bytes())["speeds"]
    assert (kept["trial"], kept["cpu"], kept["gpu"]) == (["bf16", "bf16", 1], 20.0, 12.0)


TOO_SMALL = (
    "zaya: computing on the CPU: demo needs 0.36 GB on the card, and 0.30 GB can be used of GeForce RTX 3060 (cuda:0), "
    "where 0.90 GB of 4.00 GB are free (--device cpu accepts it).\n"
)


def test_a_card_that_is_too_small_is_left_alone_with_one_line_and_not_measured(zaya, entered, measured):
    entered(replace(GAMING, cards=(Card("GeForce RTX 3060", 4 * GB, 900_000_000),)))
    asked = measured(cuda=12.0, cpu=20.0)
    result = zaya(*ASK)
    assert (result.code, result.err, asked) == (0, TOO_SMALL, [])
    assert zaya(*ASK, "--device", "cpu").err == ""


def test_a_card_that_is_too_small_is_named_with_what_would_take_it(zaya, entered, measured, monkeypatch):
    entered(replace(GAMING, cards=(Card("GeForce RTX 3060", 4 * GB, 954_000_000),)))
    measured(cuda=12.0, cpu=20.0)
    assert "are free; --cpu-experts auto takes the card (--device cpu accepts it).\n" in zaya(*ASK).err


@pytest.mark.parametrize("flags", [("--force",), ("--gpu-memory", "3"), ("--cpu-experts", "1")])
def test_a_card_that_is_too_small_is_not_left_alone_by_one_who_says_how_to_use_it(zaya, entered, measured, flags):
    entered(replace(GAMING, cards=(Card("GeForce RTX 3060", 4 * GB, 900_000_000),)))
    asked = measured(cuda=12.0, cpu=20.0)
    result = zaya(*ASK, *flags)
    assert ON_CPU in result.err
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("cpu", "card", "device"), [(20.0, 12.0, "cpu"), (12.0, 12.0, "cuda:0"), (12.0, 20.0, "cuda:0")]
)
def test_the_faster_one_is_taken_and_the_card_of_equals(entered, measured, cpu, card, device):
    entered(GAMING)
    measured(cuda=card, cpu=cpu)
    choice = choose_device("auto", lambda gpu: SpeedRecord(gpu, 2).kept_or_measured(INT4))
    assert str(choice.device) == device
    assert bool(choice.notes) == (device == "cpu")


def test_why_is_told_in_the_answers_figures_and_by_doctor(zaya, entered, measured):
    entered(GAMING)
    measured(cuda=12.0, cpu=20.0)
    assert f"cpu: it is faster here than {LABEL} ({RATES}); bfloat16: as stored" in zaya(*ASK[:-1], "--stats").err
    texts = [finding.text for finding in device_findings("auto") if finding.topic == "device"]
    assert texts == [
        "cuda:0: GeForce RTX 3060 (CUDA)",
        f"bf16: CPU 20.0, {LABEL} 12.0 tokens/s (measured), so auto takes the CPU",
    ]
    assert len(list(device_findings("cuda"))) == 3  # nothing is chosen, and nothing said of it


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cpu"])
def test_a_device_that_was_asked_for_is_never_measured(entered, name):
    entered(GAMING)
    assert str(choose_device(name, lambda gpu: pytest.fail("measured")).device).startswith(name)


def test_without_a_card_nothing_is_measured_and_nothing_written(zaya, entered, measured):
    entered(Machine())
    assert measured() == []
    result = zaya(*ASK)
    assert (result.code, result.err) == (0, "")
    assert not speeds_file().parent.exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("CUDA error: an illegal memory access was encountered\nhints"), "CUDA error: an illegal memory "
         "access was encountered"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), "CUDA out of memory. Tried to "
         "allocate 20.00 MiB"),
        (AssertionError(), "AssertionError"),
    ],
)  # fmt: skip
def test_a_card_that_fails_at_the_trial_is_not_taken_and_tried_again_next_time(zaya, entered, measured, error, reason):
    entered(GAMING)
    asked = measured(cuda=error, cpu=20.0)
    failed = f"{LABEL} failed at a trial ({reason})"
    line = f"zaya: computing on the CPU: {failed} (see `zaya doctor`; --device cpu accepts it).\n"
    for _ in range(2):
        result = zaya(*ASK)
        assert (result.code, result.err) == (0, MEASURING + line)
    assert [device for _, device in asked] == ["cuda:0"] * 2
    assert not speeds_file().exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_the_card_is_taken_where_the_cpu_cannot_be_measured(entered, measured, error):
    entered(GAMING)
    measured(cuda=12.0, cpu=error)
    choice = choose_device("auto", lambda gpu: SpeedRecord(gpu, 2).kept_or_measured(INT4))
    assert (str(choice.device), choice.notes) == ("cuda:0", ())


def test_each_format_is_measured_for_itself_and_all_are_kept(entered, measured, capsys):
    entered(GAMING)
    asked = measured(cuda=12.0, cpu=20.0)
    others = [Trial("int4", "int4"), Trial("bf16", "bf16"), Trial("int4", "int8", rows=8)]
    for trial in (INT4, *others, INT4):
        assert record().kept_or_measured(trial) == Speeds(20.0, 12.0)
    assert len(asked) == 8
    assert list(record().kept()) == [INT4, *others]
    err = capsys.readouterr().err
    assert "faster for int4 with int8 ...\n" in err
    assert "faster for int4 with int8, 8 rows at once ...\n" in err


@pytest.mark.parametrize(
    "change", ["card", "driver", "override", "cpu", "threads", "versions", "triton", "products", "hip", "gfx"]
)
def test_what_a_speed_depends_on_is_part_of_the_key(entered, measured, monkeypatch, tmp_path, change):
    entered(GAMING)
    asked = measured(cuda=12.0, cpu=20.0)
    record().kept_or_measured(INT4)
    other, threads = GAMING, 2
    if change == "card":
        other = Machine(**(vars(GAMING) | {"cards": (Card("GeForce RTX 4090"),)}))
    elif change == "driver":
        other = Machine(**(vars(GAMING) | {"files": GAMING.files | {"proc/driver/nvidia/version": "590.1"}}))
    elif change == "override":
        other = Machine(**(vars(GAMING) | {"environment": {"HSA_OVERRIDE_GFX_VERSION": "11.0.0"}}))
    elif change in ("hip", "gfx"):
        other = Machine(**(vars(GAMING) | {"hip": "7.1", "cards": (Card("GeForce RTX 3060", gfx=f"gfx-{change}"),)}))
    elif change == "threads":
        threads = 4
    elif change == "cpu":
        monkeypatch.setattr(speeds, "processor", lambda: "another")
    elif change == "versions":
        monkeypatch.setattr(speeds, "installed_version", lambda name: "9.9")
    elif change == "triton":
        monkeypatch.setattr(speeds, "triton_version", lambda: "9.9")
    elif change == "products":
        monkeypatch.setattr(speeds, "products_in_use", lambda device: [])
    entered(other)
    assert record(threads).kept() == {}
    record(threads).kept_or_measured(INT4)
    assert len(asked) == 4


def spoiled(content):
    """The kept file in states in which it must not be believed, as bytes."""
    entry = unsealed(content)["speeds"][0]
    yield b""
    yield b"\x00\xff"
    yield b"[" * 100_000
    yield b"[1, 2]"
    yield b" " * (2 << 20)
    yield content[:-7]
    yield content.replace(b"20.0", b"2.0")
    yield sealed({})
    yield sealed({"speeds": None})
    yield sealed({"speeds": [None, {}, {"machine": 1}]})
    for name, value in WRONG:
        yield sealed({"speeds": [entry | {name: value}]})


def test_a_damaged_file_is_measured_again_and_replaced(entered, measured, capsys):
    entered(GAMING)
    asked = measured(cuda=12.0, cpu=20.0)
    record().kept_or_measured(INT4)
    whole = speeds_file().read_bytes()
    for number, content in enumerate(spoiled(whole), start=2):
        speeds_file().write_bytes(content)
        assert record().kept_or_measured(INT4) == Speeds(20.0, 12.0)
        assert len(asked) == 2 * number
        assert record().kept() == {INT4: Speeds(20.0, 12.0)}
    assert "cannot be kept" not in capsys.readouterr().err


@pytest.mark.parametrize("what", ["a file in place of the folder", "a folder in place of the file"])
def test_a_result_that_cannot_be_kept_counts_all_the_same(zaya, entered, measured, tmp_path, what):
    entered(GAMING)
    measured(cuda=12.0, cpu=20.0)
    if what == "a file in place of the folder":
        (tmp_path / "cache").write_text("")
    else:
        speeds_file().mkdir(parents=True)
    for _ in range(2):
        result = zaya(*ASK)
        kept, start = result.err.removeprefix(MEASURING).split("\n", 1)
        assert kept.startswith(f"zaya: what was measured cannot be kept in {speeds_file()} (")
        assert kept.endswith("): it is measured at every start.")
        assert (result.code, start) == (0, ON_CPU)


def test_a_pipe_in_place_of_the_file_is_not_waited_for(entered, measured):
    entered(GAMING)
    measured(cuda=12.0, cpu=20.0)
    speeds_file().parent.mkdir(parents=True)
    os.mkfifo(speeds_file())
    assert record().kept_or_measured(INT4) == Speeds(20.0, 12.0)
    assert record().kept() == {INT4: Speeds(20.0, 12.0)}


def test_the_file_does_not_grow_without_end(entered, measured):
    entered(GAMING)
    measured(cuda=12.0, cpu=20.0)
    record().kept_or_measured(INT4)
    (entry,) = unsealed(speeds_file().read_bytes())["speeds"]
    many = [entry | {"trial": [f"format{number}", "int8", 1]} for number in range(100)]
    speeds_file().write_bytes(sealed({"speeds": many}))
    record().kept_or_measured(INT4)
    assert list(record().kept()) == [*((f"format{number}", "int8", 1) for number in range(37, 100)), INT4]


def test_an_interrupt_while_measuring_ends_the_program_and_keeps_nothing(zaya, entered, monkeypatch):
    entered(GAMING)

    def rate(trial, device):
        raise KeyboardInterrupt

    monkeypatch.setattr(cpu_or_card, "decode_rate", rate)
    result = zaya(*ASK)
    assert (result.code, result.err) == (130, MEASURING)
    assert not speeds_file().exists()


def test_an_unfit_card_is_not_measured(zaya, entered, measured):
    entered(Machine(**(vars(GAMING) | {"cards": (Card("busy", error=RuntimeError("CUDA error: out of memory")),)})))
    assert measured() == []
    result = zaya(*ASK, "--format", "json")
    assert result.code == 0
    assert "measuring" not in result.err
    assert json.loads(result.out)["device"] == "cpu"


def test_memory_is_that_of_the_device_that_computes(zaya, entered, measured):
    """A model that does not fit the card is no failure where the CPU computes it."""
    tiny = Card("GeForce GT 710", total=GB // 4, free=GB // 4)
    entered(Machine(**(vars(GAMING) | {"cards": (tiny,)})))
    measured(cuda=1.0, cpu=20.0)
    assert zaya(*ASK).code == 0


def test_rows_that_run_at_once_are_measured_at_once(entered, measured):
    entered(GAMING)
    asked = measured(cuda=12.0, cpu=20.0)
    runtime.open_runtime(RuntimeSettings(model="demo", threads=1), rows=4)
    assert [trial for trial, _ in asked] == [("bf16", "bf16", 4)] * 2
