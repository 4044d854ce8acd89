"""Models against simulated graphics cards: what is placed there, and the sentence where there is no room."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.simulated_card import GB, GIB, simulate_card
from tests.core.kernel_choice import chosen_kernels
from zaya_cli.machine.hardware import Memory
from zaya_cli.models import choice
from zaya_cli.models.card_fit import CardFit, CardUse
from zaya_cli.models.choice import choose
from zaya_cli.models.fit_report import advice, fits_of, judged, longest_in, table_of
from zaya_cli.models.inventory import PresentModel
from zaya_core.config.parse import parse_config
from zaya_core.errors import MemoryFitError, UsageError
from zaya_core.machine.memory_fit import packed_as, weight_bytes

PUBLISHED = parse_config({"model_type": "zaya", "layer_types": ["hybrid"] * 40})
AUTO = CardUse(cpu_experts=None)


def fit(memory, format, context=16_384, kv="auto", **use):
    return CardFit.of(
        packed_as(PUBLISHED, format), weight_bytes(PUBLISHED, format), memory, context, kv, CardUse(**use)
    )


@pytest.mark.parametrize(
    ("gib", "format", "capability", "layers"),
    [
        (4, "int8", (8, 6), 35),
        (4, "int4", (8, 6), 30),
        (6, "bf16", (8, 6), 34),
        (6, "int8", (8, 6), 24),
        (6, "int4", (8, 6), 10),
        (8, "bf16", (8, 6), 29),
        (8, "int8", (8, 6), 15),
        (8, "int4", (8, 6), 0),
        (11, "int8", (8, 6), 0),
        (11, "int8", (7, 5), 4),  # keys and values are float32 there
        (11, "bf16", (7, 5), 34),  # and all that is not packed
        (12, "int8", (8, 6), 0),
        (16, "bf16", (8, 6), 10),
        (24, "bf16", (8, 6), 0),
    ],
)
def test_auto_leaves_as_few_experts_in_main_memory_as_a_card_needs(monkeypatch, gib, format, capability, layers):
    found = fit(simulate_card(monkeypatch, gib, capability=capability), format, cpu_experts=None)
    assert found.placed.cpu_experts == layers
    assert found.fits
    assert fit(found.memory, format).fits == (layers == 0)


@pytest.mark.parametrize(
    ("gib", "host", "format", "context", "use", "sentence"),
    [
        (
            8, 16, "int8", 16_384, {},
            "it needs 10.08 GB on the card, and 7.23 GB can be used of GeForce (cuda:0), where 8.09 GB of 8.59 GB are "
            "free: what would fit is --cpu-experts 15, the int4 format (6.30 GB; `zaya quantize --format int4`) or "
            "--device cpu",
        ),
        (
            8, 16, "int4", 131_072, {},
            "it needs 11.47 GB on the card, and 7.23 GB can be used of GeForce (cuda:0), where 8.09 GB of 8.59 GB are "
            "free: what would fit is --ctx 36864, --cpu-experts 40 or --device cpu",
        ),
        (
            6, 16, "int4", 16_384, {},
            "it needs 6.30 GB on the card, and 5.30 GB can be used of GeForce (cuda:0), where 5.94 GB of 6.44 GB are "
            "free: what would fit is --cpu-experts 10 or --device cpu",
        ),
        (
            6, 16, "int4", 16_384, {"cpu_experts": 9},
            "it needs 5.34 GB on the card with the experts of 9 of 40 layers in main memory, and 5.30 GB can be used "
            "of GeForce (cuda:0), where 5.94 GB of 6.44 GB are free: what would fit is --ctx 15360, --cpu-experts 10 "
            "or --device cpu",
        ),
        (
            4, 16, "bf16", 16_384, {},
            "it needs 18.88 GB on the card, and 3.19 GB can be used of GeForce (cuda:0), where 3.79 GB of 4.29 GB are "
            "free: what would fit is the int8 format (3.03 GB; `zaya quantize --format int8`) with --cpu-experts 35",
        ),
        (
            4, 16, "bf16", 16_384, {"cpu_experts": None},
            "it needs 16.40 GB of main memory for the experts of 39 of 40 layers, and there are 16.00 GB: what would "
            "fit is the int8 format (2.22 GB; `zaya quantize --format int8`)",
        ),
        (
            2, 8, "bf16", 16_384, {"cpu_experts": None},
            "it needs 2.77 GB on the card with the experts of 40 of 40 layers in main memory, and 1.05 GB can be used "
            "of GeForce (cuda:0), where 1.65 GB of 2.15 GB are free: nothing that could be changed would make it fit",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_with_what_would(monkeypatch, gib, host, format, context, use, sentence):
    found = fit(simulate_card(monkeypatch, gib, host=host), format, context, **use)
    assert not found.fits
    assert found.refusal("it") == sentence


def test_what_was_granted_of_a_card_bounds_it_and_is_said(monkeypatch):
    memory = simulate_card(monkeypatch, 24).at_most(int(7.5 * GB))
    assert not fit(memory, "int8").fits
    assert fit(memory, "int8").refusal("it") == (
        "it needs 10.08 GB on the card, and 6.75 GB can be used of GeForce (cuda:0), where 25.27 GB of 25.77 GB are "
        "free and --gpu-memory grants 7.50 GB: what would fit is --gpu-memory 11.2, --cpu-experts 17, the int4 format "
        "(6.30 GB; `zaya quantize --format int4`) or --device cpu"
    )
    assert fit(replace(memory, most=None), "int8").fits
    assert fit(memory.at_most(int(11.2 * GB)), "int8").fits
    assert not fit(memory.at_most(int(11.1 * GB)), "int8").fits
    small = simulate_card(monkeypatch, 8).at_most(GB // 2)  # all of that card would be too little for int8
    assert "would fit is --gpu-memory" not in fit(small, "int8").refusal("it")
    assert "would fit is --gpu-memory 7.1 or" in fit(small, "int4").refusal("it")


def test_each_change_that_is_named_makes_it_fit(monkeypatch):
    memory = simulate_card(monkeypatch, 8)
    assert not fit(memory, "int4", 131_072).fits
    assert fit(memory, "int4", 36_864).fits
    assert not fit(memory, "int4", 36_864 + 1024).fits
    assert fit(memory, "int4", 131_072, cpu_experts=40).fits
    assert not fit(memory, "int4", 131_072, cpu_experts=39).fits


def test_nothing_is_tight_on_a_card(monkeypatch):
    memory = replace(simulate_card(monkeypatch, 24), free=6 * GB)  # others have the rest
    for format in ("bf16", "int8", "int4"):
        found = judged(packed_as(PUBLISHED, format), weight_bytes(PUBLISHED, format), memory)
        assert found[1] == "does not fit"
    fits = fits_of(PUBLISHED, weight_bytes(PUBLISHED, "bf16"), memory)
    assert [one.verdict for one in fits] == ["does not fit"] * 3
    assert fits_of(None, 5 * GB, memory)[0].verdict == "does not fit"  # nor is what is left alone for it
    assert "tight" not in "\n".join(table_of(fits, memory))
    assert advice(fits, memory) == (
        "6.30 GB are needed at least (int4, 16,384 tokens of context), and 3.42 GB can be used of GeForce (cuda:0)"
    )


def test_the_longest_context_is_that_of_the_card(monkeypatch):
    memory = simulate_card(monkeypatch, 8)
    tokens = longest_in(packed_as(PUBLISHED, "int4"), weight_bytes(PUBLISHED, "int4"), memory)
    assert tokens == 36_864
    assert fit(memory, "int4", tokens).fits


@pytest.mark.parametrize(("dtype", "value"), [("auto", 2), ("bfloat16", 2), ("float32", 4)])
def test_keys_and_values_have_the_dtype_that_is_asked_for(monkeypatch, dtype, value):
    assert fit(simulate_card(monkeypatch, 24), "int4", dtype=dtype).placed.bytes_per_value == value


def test_a_dtype_that_is_not_offered_is_refused_as_by_loading(monkeypatch):
    with pytest.raises(UsageError, match="float16 is not offered"):
        fit(simulate_card(monkeypatch, 24), "int4", dtype="float16")


def test_weights_that_are_stored_in_float32_are_counted_so_whatever_is_said_of_them(monkeypatch):
    memory, stored = simulate_card(monkeypatch, 48), 2 * weight_bytes(PUBLISHED, "bf16")
    assert CardFit.of(PUBLISHED, stored, memory).need.weights == pytest.approx(stored, rel=0.02)
    assert CardFit.of(PUBLISHED, stored, memory, use=CardUse(dtype="bfloat16")).need.weights < 0.6 * stored


def model(format):
    config, nbytes = packed_as(PUBLISHED, format), weight_bytes(PUBLISHED, format)
    return PresentModel(f"ZAYA1-8B-{format}", Path(format), "quantized", format, nbytes, True, config)


MODELS = [model(format) for format in ("bf16", "int8", "int4")]


@pytest.mark.parametrize(
    ("gib", "use", "chosen", "reason"),
    [
        (24, CardUse(), "bf16", "the closest to the published weights; needs 18.88 GB on the card"),
        (
            12, CardUse(), "int8",
            "needs 10.08 GB on the card; ZAYA1-8B-bf16 needs 18.88 GB on the card, and 11.10 GB can be used of GeForce "
            "(cuda:0), where 12.38 GB of 12.88 GB are free",
        ),
        (
            12, AUTO, "int8",
            "needs 10.08 GB on the card; ZAYA1-8B-bf16 needs 10.82 GB on the card with the experts of 20 of 40 layers "
            "in main memory",
        ),
        (
            6, AUTO, "int4",
            "needs 5.23 GB on the card with the experts of 10 of 40 layers in main memory; ZAYA1-8B-bf16 needs 5.19 GB "
            "on the card with the experts of 34 of 40 layers in main memory",
        ),
        (
            24, CardUse(gpu_memory=8 * GB), "int4",
            "needs 6.30 GB on the card; ZAYA1-8B-bf16 needs 18.88 GB on the card, and 7.20 GB can be used of GeForce "
            "(cuda:0), where 25.27 GB of 25.77 GB are free and --gpu-memory grants 8.00 GB",
        ),
    ],
)  # fmt: skip
def test_without_a_name_the_model_with_the_fewest_experts_beside_the_card_is_taken(
    monkeypatch, gib, use, chosen, reason
):
    found = choose(MODELS, simulate_card(monkeypatch, gib).at_most(use.gpu_memory), use=use)
    assert (found.model.format, found.verdict, found.reason) == (chosen, "fits", reason)


def test_a_command_that_names_no_model_takes_one_that_fits_what_was_asked_for(monkeypatch):
    memory = simulate_card(monkeypatch, 24)
    monkeypatch.setattr(choice, "memory_of", lambda device: memory)
    monkeypatch.setattr(choice, "present_models", lambda: MODELS)
    found = [
        choice.find_model(None, use=use).name
        for use in (CardUse(), CardUse(gpu_memory=12 * GB), CardUse(gpu_memory=8 * GB), CardUse(dtype="float32"))
    ]
    assert found == ["ZAYA1-8B-bf16", "ZAYA1-8B-int8", "ZAYA1-8B-int4", "ZAYA1-8B-int8"]


@pytest.mark.parametrize(
    ("device", "host", "use", "chosen"),
    [
        ("auto", 32, CardUse(), "ZAYA1-8B-bf16"),
        ("auto", 16, CardUse(dtype="float32", rows=8), "ZAYA1-8B-int8"),
        ("auto", 4, CardUse(), None),
        ("cuda", 32, CardUse(), None),
        ("auto", 32, CardUse(gpu_memory=3 * GB), None),
        ("auto", 32, CardUse(cpu_experts=9), None),
    ],
)
def test_where_none_fits_on_the_card_auto_takes_one_that_main_memory_has_room_for(
    monkeypatch, device, host, use, chosen
):
    memory = simulate_card(monkeypatch, 6, host=host)
    monkeypatch.setattr(choice, "memory_of", lambda device: memory)
    monkeypatch.setattr(choice, "present_models", lambda: MODELS)
    if chosen is None:
        with pytest.raises(MemoryFitError, match="on the card"):
            choice.find_model(None, device=device, use=use)
    else:
        found = choice.find_model(None, device=device, use=use)
        assert found.name == chosen
        assert found.reason is not None
        assert found.reason.endswith("; on the CPU, since no model here fits on GeForce (cuda:0)")


def test_the_reference_of_the_kernels_keeps_keys_and_values_in_float32(monkeypatch):
    memory = simulate_card(monkeypatch, 24)
    with chosen_kernels("reference"):
        assert fit(memory, "int4").placed.bytes_per_value == 4


def test_an_only_model_that_fits_is_taken(monkeypatch):
    memory = simulate_card(monkeypatch, 8)
    assert choose(MODELS[2:], memory).reason == "the only model here; needs 6.30 GB on the card"


def test_where_no_model_fits_on_the_card_the_smallest_says_what_would_help(monkeypatch):
    with pytest.raises(MemoryFitError) as refused:
        choose(MODELS, simulate_card(monkeypatch, 6))
    assert str(refused.value) == (
        "No model on this machine fits: ZAYA1-8B-int4 needs 6.30 GB on the card, and 5.30 GB can be used of GeForce "
        "(cuda:0), where 5.94 GB of 6.44 GB are free: what would fit is --cpu-experts 10 or --device cpu; pull a "
        "smaller format, or name a model and add --force."
    )


def test_main_memory_is_neither_granted_nor_left_alone():
    memory = Memory("main memory", 16 * GIB, 8 * GIB)
    assert memory.at_most(GB) == memory
    assert memory.usable == 16 * GIB
    assert judged(PUBLISHED, 9 * GB, memory)[1] == "tight"
