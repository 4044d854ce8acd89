"""A command on a machine with a simulated graphics card: what is placed there is decided before anything is loaded.

The card is in the numbers only; what is computed, the CPU computes.
"""

from __future__ import annotations

import json

import pytest
import torch

from tests.cli.simulated_card import GB, simulate_card
from zaya_cli import runtime
from zaya_cli.commands import bench_model
from zaya_cli.flags.card import CardFlags
from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.machine.hardware import Memory
from zaya_cli.models.card_fit import CardFit
from zaya_core import load
from zaya_core.cache import states

RUN = ("run", "-p", "1+1", "-m", "demo", "-n", "2", "--device", "cpu", "--threads", "1")
BENCH = ("bench", "-m", "demo", "-p", "8", "-n", "2", "-r", "1", "--device", "cpu", "--threads", "1")


@pytest.fixture
def card(monkeypatch):
    """Put a card of so many GiB into the machine."""

    def put(gib: float) -> Memory:
        memory = simulate_card(monkeypatch, gib)
        for module in (runtime, bench_model):
            monkeypatch.setattr(module, "memory_of", lambda device: memory)
        return memory

    return put


@pytest.fixture
def loads(monkeypatch):
    """How many layers' experts `load_model` was told to leave in main memory, by call."""
    asked: list[int] = []

    def load_model(*arguments, cpu_experts=0, **more):
        asked.append(cpu_experts)
        return loaded(*arguments, **more)

    loaded = load.load_model
    monkeypatch.setattr(load, "load_model", load_model)
    monkeypatch.setattr(bench_model, "load_model", load_model)
    return asked


def engine_with(**settings):
    return runtime.open_runtime(RuntimeSettings(model="demo", device="cpu", threads=1, **settings)).engine


def test_the_pool_is_bounded_by_what_all_rows_can_use_and_by_the_card(card):
    card(24)
    engine = engine_with(context=500)
    assert (engine.max_rows, engine.context, engine.states.pool.max_blocks) == (16, 500, 16 * 2)
    bounded = engine_with().states.pool.max_blocks
    longest = engine_with().context
    assert bounded == 16 * -(-longest // 256)
    card(1.5)
    small = engine_with()
    assert (small.context, small.max_rows) == (longest, 16)
    assert small.states.pool.max_blocks < bounded


def test_an_answer_for_which_a_card_has_no_room_any_more_is_cut_and_kept(zaya, card, endless_folder, monkeypatch):
    card(24)
    monkeypatch.setattr(CardFit, "pool_blocks", lambda fit, longest: 1)
    command = ("run", "-m", endless_folder, "--device", "cpu", "--threads", "1", "--thinking", "off")
    result = zaya(*command, "-p", "go", "--format", "json")
    answer = json.loads(result.out)
    assert (result.code, answer["finish_reason"]) == (0, "length")
    assert answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"] == 256
    assert answer["text"].startswith(" the the the")
    assert zaya(*command, "-p", "word " * 600).code == 6
    chat = zaya("chat", *command[1:], piped="go\n")
    assert "context 256 tokens" in chat.err
    assert "The answer was cut: the context of 256 tokens is full." in chat.err


def test_rows_of_rsa_share_the_same_pool(card):
    card(24)
    settings = RuntimeSettings(model="demo", device="cpu", threads=1, context=500)
    engine = runtime.open_runtime(settings, rows=3).engine
    assert (engine.max_rows, engine.states.pool.max_blocks) == (3, 3 * 2)
    card(1.4)
    assert runtime.open_runtime(settings, rows=1024).engine.max_rows == 1024
    card(1.35)
    assert runtime.open_runtime(settings, rows=1024).engine.max_rows == 256


REFUSED = (
    "zaya: demo needs 0.36 GB on the card, and 0.19 GB can be used of GeForce (cuda:0), where 0.79 GB of 1.29 GB are "
    "free: what would fit is --device cpu"
)


def test_what_does_not_fit_is_refused_before_it_is_loaded_unless_forced(zaya, card, loads):
    card(1.2)
    result = zaya(*RUN)
    assert (result.code, result.out, result.err) == (4, "", f"{REFUSED}; --force tries all the same.\n")
    measured = zaya(*BENCH)  # of as many tokens as it measures, and nothing can be forced there
    assert (measured.code, measured.err) == (4, f"{REFUSED.replace('0.36', '0.34')}.\n")
    assert loads == []
    assert zaya(*RUN, "--force").code == 0
    assert engine_with(force=True).states.pool.max_blocks == 16  # one conversation of all it can have


def test_random_weights_that_do_not_fit_are_refused_with_the_flags_of_their_command(zaya, card):
    card(8)
    result = zaya("bench", "--dummy", "--quant", "int8", "-n", "128", "--device", "cpu", "--threads", "1")
    assert (result.code, result.out) == (4, "")
    assert result.err == (
        "zaya: a model of random weights needs 9.36 GB on the card, and 7.23 GB can be used of GeForce (cuda:0), where "
        "8.09 GB of 8.59 GB are free: what would fit is --cpu-experts 11, the int4 format (5.59 GB; `zaya bench "
        "--dummy --quant int4`) or --device cpu.\n"
    )


@pytest.mark.parametrize("place", ["weights", "pool"])
@pytest.mark.parametrize("command", [RUN, BENCH])
def test_a_card_that_is_full_all_the_same_is_said_in_one_sentence(zaya, card, monkeypatch, place, command):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    card(24)
    if place == "weights":
        monkeypatch.setattr(load, "build_model", full)
    else:
        monkeypatch.setattr(states, "BlockPool", full)
    result = zaya(*command)
    assert (result.code, result.out) == (4, "")
    assert result.err == (
        "zaya: demo found less room than expected on GeForce (cuda:0): close what else uses the card, or give --ctx, "
        "--cpu-experts auto or --device cpu.\n"
    )


def test_what_fails_otherwise_is_not_blamed_on_the_card(zaya, card, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("something else")

    card(24)
    monkeypatch.setattr(load, "build_model", broken)
    result = zaya(*RUN)
    assert (result.code, "something else" in result.err, "room" in result.err) == (1, True, False)


@pytest.mark.parametrize("command", [RUN, BENCH])
@pytest.mark.usefixtures("quickly_read")
def test_pytorch_is_told_what_was_granted_of_the_card(zaya, card, monkeypatch, command):
    told = []
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda *one: told.append(one))
    memory = card(24)
    assert zaya(*command).code == 0
    assert told == []
    assert zaya(*command, "--gpu-memory", "7.5").code == 0
    assert zaya(*command, "--gpu-memory", "100").code == 0
    assert told == [(7.5 * GB / memory.total, 0), (1.0, 0)]


def test_what_was_granted_bounds_the_pool(card, monkeypatch):
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda *_: None)
    card(24)
    whole, less = (engine_with(card=CardFlags(gpu_memory=most)).states.pool.max_blocks for most in (None, 1.1))
    assert less < whole


@pytest.mark.parametrize(("wanted", "layers"), [("0", 0), ("2", 2), ("5", 5), ("auto", 0)])
@pytest.mark.usefixtures("quickly_read")
def test_so_many_layers_experts_stay_in_main_memory(zaya, card, loads, wanted, layers):
    card(24)
    answer = json.loads(zaya(*RUN, "--cpu-experts", wanted, "--format", "json").out)
    assert answer.get("cpu_experts", 0) == layers
    measured = zaya(*BENCH, "--cpu-experts", wanted, "--format", "json")
    assert (measured.code, json.loads(measured.out)["model"].get("cpu_experts", 0)) == (0, layers)
    assert loads == [layers, layers]


@pytest.mark.usefixtures("quickly_read")
def test_auto_takes_as_few_as_the_card_needs(zaya, card, loads, monkeypatch):
    card(24)
    monkeypatch.setattr(Memory, "usable", property(lambda memory: 354_000_000))  # of 355.2 MB with 0.8 MB a layer
    assert zaya(*RUN, "--cpu-experts", "auto").code == 0
    assert loads == [2]
    measured = zaya(*BENCH, "--cpu-experts", "2").out.partition("\n")[0]
    assert "K/V bfloat16, the experts of 2 layers in main memory), " in measured


@pytest.mark.parametrize(
    ("flag", "value", "sentence"),
    [
        ("--gpu-memory", "0", "--gpu-memory is 0; it must be a number of GB above 0, such as 7.5."),
        ("--gpu-memory", "-2", "--gpu-memory is -2; it must be a number of GB above 0, such as 7.5."),
        ("--gpu-memory", "nan", "--gpu-memory is nan; it must be a number of GB above 0, such as 7.5."),
        ("--gpu-memory", "inf", "--gpu-memory is inf; it must be a number of GB above 0, such as 7.5."),
        ("--gpu-memory", "1e300", "--gpu-memory is 1e+300; it must be a number of GB above 0, such as 7.5."),
        ("--gpu-memory", "8GB", "--gpu-memory 8GB: a number is needed, such as 0.7."),
        ("--cpu-experts", "-1", "--cpu-experts is '-1'; it must be auto, or a number of layers from 0 up."),
        ("--cpu-experts", "2.5", "--cpu-experts is '2.5'; it must be auto, or a number of layers from 0 up."),
        ("--cpu-experts", "all", "--cpu-experts is 'all'; it must be auto, or a number of layers from 0 up."),
        ("--cpu-experts", "", "--cpu-experts is ''; it must be auto, or a number of layers from 0 up."),
        ("--cpu-experts", "\u00b2", "--cpu-experts is '\u00b2'; it must be auto, or a number of layers from 0 up."),
        ("--cpu-experts", "6", "--cpu-experts 6 is too many: this model has 5 layers."),
    ],
)
@pytest.mark.parametrize("command", [RUN, BENCH, ("run", "-p", "1+1", "-m", "demo", "--rsa", "2")])
def test_what_is_no_amount_is_refused(zaya, loads, command, flag, value, sentence):
    result = zaya(*command, flag, value)
    assert (result.code, result.out, loads) == (2, "", [])
    assert sentence in result.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--gpu-memory", "7.5"), "--gpu-memory does nothing here"),
        (("--cpu-experts", "auto"), "--cpu-experts does nothing here"),
        (("--cpu-experts", "3"), "--cpu-experts does nothing here"),
        (("--gpu-memory", "7.5", "--cpu-experts", "3"), "--gpu-memory and --cpu-experts do nothing here"),
        (("--graphs", "off"), "--graphs does nothing here"),
        (
            ("--gpu-memory", "7.5", "--cpu-experts", "3", "--graphs", "on"),
            "--gpu-memory, --cpu-experts and --graphs do nothing here",
        ),
        (("--cpu-experts", "0"), None),
        ((), None),
    ],
)
@pytest.mark.parametrize("command", [RUN, BENCH])
@pytest.mark.usefixtures("quickly_read")
def test_on_a_cpu_they_are_said_to_do_nothing(zaya, loads, command, flags, said):
    result = zaya(*command, *flags)
    assert (result.code, loads) == (0, [0])
    assert result.err.startswith(f"zaya: {said}: the CPU computes, and no card is used.\n" if said else "")
    assert ("nothing here" in result.err) == (said is not None)


@pytest.mark.parametrize("command", [RUN, BENCH])
@pytest.mark.usefixtures("quickly_read")
def test_whether_graphs_are_replayed_reaches_the_model_that_is_loaded(zaya, card, monkeypatch, tmp_path, command):
    asked: list[str] = []

    class Parts(load.ModelParts):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            asked.append(self.graphs)

    monkeypatch.setattr(load, "ModelParts", Parts)
    card(24)
    (tmp_path / "mine.toml").write_text('graphs = "on"\n')
    assert zaya(*command).code == 0
    monkeypatch.setenv("ZAYA_CONFIG", str(tmp_path / "mine.toml"))
    assert zaya(*command).code == 0
    monkeypatch.setenv("ZAYA_GRAPHS", "off")
    assert zaya(*command).code == 0
    assert zaya(*command, "--graphs", "auto").code == 0
    assert asked == ["auto", "on", "off", "auto"]
    assert "--graphs" in zaya(*command, "--graphs", "always").err


@pytest.mark.parametrize(("command", "module"), [(RUN, runtime), (BENCH, bench_model)])
@pytest.mark.usefixtures("quickly_read")
def test_a_model_that_kernels_decline_is_said_once_it_is_loaded(zaya, card, monkeypatch, command, module):
    told = []
    monkeypatch.setattr(module, "report_declined", lambda model: told.append(model.steps.name))
    card(24)
    assert zaya(*command).code == 0
    assert len(told) == 1


@pytest.mark.parametrize("command", [RUN, BENCH])
@pytest.mark.parametrize(("gib", "more"), [(24, ("-m", "nowhere/nothing")), (0.6, ())])
def test_no_kernels_are_checked_for_a_model_that_is_not_there_or_does_not_fit(
    zaya, card, monkeypatch, command, gib, more
):
    checked = []
    for module in (runtime, bench_model):
        monkeypatch.setattr(module, "prepare_kernels", lambda *one: checked.append(one))
    card(gib)
    assert zaya(*command, *more).code != 0
    assert checked == []


def test_variables_and_the_settings_file_set_them_too(zaya, card, loads, monkeypatch, tmp_path):
    card(24)
    monkeypatch.setattr("torch.cuda.set_per_process_memory_fraction", lambda *_: None)
    (tmp_path / "mine.toml").write_text('cpu_experts = "3"\ngpu_memory = 8\n')
    monkeypatch.setenv("ZAYA_CONFIG", str(tmp_path / "mine.toml"))
    assert zaya(*RUN).code == 0
    monkeypatch.setenv("ZAYA_CPU_EXPERTS", "4")
    assert zaya(*RUN).code == 0
    assert zaya(*RUN, "--cpu-experts", "1").code == 0
    assert loads == [3, 4, 1]
    monkeypatch.setenv("ZAYA_GPU_MEMORY", "plenty")
    assert "ZAYA_GPU_MEMORY plenty: a number is needed" in zaya(*RUN).err
