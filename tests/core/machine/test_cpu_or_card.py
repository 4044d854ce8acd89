"""The twentieth of a model on which CPU and card are compared."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest

from zaya_core.checkpoint.names import parameters
from zaya_core.config.parse import parse_config
from zaya_core.config.quantization import Quantization
from zaya_core.measure import cpu_or_card
from zaya_core.measure.dummy import full_size_config

INT4 = cpu_or_card.Trial("int4", "int8")


def test_it_is_a_twentieth_in_every_respect():
    whole = parse_config(full_size_config())
    part = parse_config(full_size_config(cpu_or_card._LAYERS, vocabulary=cpu_or_card._VOCABULARY))
    counts = [sum(math.prod(one.shape) for one in parameters(config)) for config in (whole, part)]
    assert counts[1] * 20 == pytest.approx(counts[0], rel=0.001)
    assert part.vocab_size * 20 == pytest.approx(whole.vocab_size, rel=0.001)
    assert part.num_hidden_layers * 20 == whole.num_hidden_layers
    assert part.vocab_size % 16 == 0


@pytest.mark.parametrize(
    ("packed", "trial"),
    [
        (None, ("bf16", "bf16", 1)),
        (Quantization("int4", "int8", None, is_ours=True), ("int4", "int8", 1)),
        (Quantization("int8", None, None, is_ours=True), ("int8", "bf16", 1)),
        (Quantization("nf4", None, None, is_ours=True), None),
        (Quantization("fp8", None, None, is_ours=False), None),
    ],
)
def test_a_model_is_compared_in_its_own_format_or_not_at_all(packed, trial):
    config = replace(parse_config(full_size_config()), quantization=packed)
    assert cpu_or_card.trial_of(config, None) == trial
    for rows, most in ((1, 1), (3, 3), (64, 8)):
        assert cpu_or_card.trial_of(config, rows) == (trial and (*trial[:2], most))


def test_a_rate_is_that_of_the_whole_model_after_a_warm_up(monkeypatch):
    asked: list[object] = []
    rates = iter((1.0, 40.0, 60.0, 50.0, 20.0, 30.0))  # of one run each; the first is not counted

    class Case:
        def rate(self):
            return next(rates)

    monkeypatch.setattr(cpu_or_card, "dummy_model", lambda *formats, **sizes: asked.append((formats, sizes)))
    monkeypatch.setattr(cpu_or_card, "Bench", lambda model: SimpleNamespace(decode=lambda *_, **__: Case()))
    assert cpu_or_card.decode_rate(INT4, "cuda:1") == 60.0 / 20
    assert asked == [(("int4", "int8"), {"layers": 2, "device": "cuda:1", "vocabulary": 13_120})]


@pytest.mark.parametrize("seconds", [0.0, 0.6, 100.0])
def test_measuring_ends_after_some_seconds(monkeypatch, seconds):
    clock = [0.0]
    runs = []

    class Case:
        def rate(self):
            clock[0] += seconds
            runs.append(clock[0])
            return 20.0

    monkeypatch.setattr(cpu_or_card, "dummy_model", lambda *_, **__: None)
    monkeypatch.setattr(cpu_or_card, "Bench", lambda model: SimpleNamespace(decode=lambda *_, **__: Case()))
    monkeypatch.setattr(cpu_or_card, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    assert cpu_or_card.decode_rate(INT4, "cpu") == 1.0
    assert len(runs) - 1 == {0.0: 5, 0.6: 3, 100.0: 1}[seconds]


def test_the_twentieth_runs_as_it_is(monkeypatch):
    monkeypatch.setattr(cpu_or_card, "_PATIENCE", 0.01)
    assert 0.1 < cpu_or_card.decode_rate(INT4, "cpu") < 10_000
