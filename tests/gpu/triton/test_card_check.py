"""The checks that a stranger's card is put to, in the interpreter: right kernels pass, and what is wrong is seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

from quant.kernels.resolve import cpu_products
from quant.kernels.triton.launch import tell
from tests.core.kernel_choice import chosen_kernels
from tests.gpu.triton.place import PLACE
from zaya_core.kernels.triton import prompt_attention
from zaya_core.kernels.triton.sampling.rows import TritonSampling
from zaya_core.measure.card_check import __main__ as program
from zaya_core.measure.card_check import attention, layer, products, tokens
from zaya_core.measure.card_check.attention import attention_checks
from zaya_core.measure.card_check.check import largest_difference, outcome_of
from zaya_core.measure.card_check.choices import choice_checks
from zaya_core.measure.card_check.layer import full_size_layer_checks, layer_checks
from zaya_core.measure.card_check.products import product_checks
from zaya_core.measure.card_check.tokens import median_difference, model_checks
from zaya_core.model.steps import Declined
from zaya_core.sampling.draw import Drawn

KERNELS = [*product_checks(), *layer_checks(), *attention_checks(), *choice_checks()]
SOME = [one for one in KERNELS if "of 1 row" in one.kernel or one in layer_checks()]


def found_by(checks):
    outcome = outcome_of(checks, PLACE)
    assert outcome is not None
    return outcome


def test_each_check_has_a_name_of_its_own():
    names = [check.kernel for check in (*KERNELS, *full_size_layer_checks(), *model_checks(Path()))]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("check", SOME, ids=[one.kernel for one in SOME])
def test_right_kernels_pass_by_far(check):
    assert check.difference(PLACE) < check.tolerance / 100


@pytest.mark.long
def test_all_of_them_pass(capsys):
    checks = [*KERNELS, *full_size_layer_checks()]
    assert found_by(checks).failed == ()
    assert [json.loads(line)["doing"] for line in capsys.readouterr().out.splitlines()] == [
        check.kernel for check in checks
    ]


@pytest.mark.parametrize("check", KERNELS, ids=[one.kernel for one in KERNELS])
def test_a_kernel_that_computes_nothing_is_seen(monkeypatch, check):
    def nothing(launches, device):
        for launch in launches:
            assert launch.grid

    for module in (products, layer, attention, prompt_attention):
        monkeypatch.setattr(module, "run_all", nothing)
    monkeypatch.setattr(TritonSampling, "draw", lambda self, logits, rows: [Drawn(0, 0.0) for _ in rows])
    (failure,) = found_by([check]).failed
    assert failure.kernel == check.kernel


def test_a_token_that_the_cuts_do_not_leave_and_a_wrong_log_probability_are_seen(monkeypatch):
    (check,) = choice_checks()
    right = TritonSampling.draw

    def wrong(self, logits, rows):
        first, *others = right(self, logits, rows)
        assert isinstance(first, Drawn)
        return [replace(first, logprob=first.logprob - 0.1), *others]

    monkeypatch.setattr(TritonSampling, "draw", wrong)
    assert 1e-3 < check.difference(PLACE) < 1


def test_differences():
    one = torch.ones(2, 3)
    assert largest_difference(one, one) == 0
    assert largest_difference(one, torch.ones(3, 2)) == float("inf")
    assert largest_difference(one * torch.nan, one) == float("inf")
    logits = torch.randn(5, 40)
    moved = logits.clone()
    moved[1] += 10
    assert median_difference(logits, logits) == median_difference(moved, logits) == 0
    assert median_difference(logits * torch.nan, logits) == float("inf")
    assert median_difference(logits.flip(1), logits) > 1


def test_tokens_by_torch_and_step_by_step_are_those_of_one_pass(monkeypatch, tmp_path):
    """The frame, where torch stands for the kernels."""
    loaded = tokens._loaded
    monkeypatch.setattr(tokens, "_loaded", lambda folder, device, *_: loaded(folder, device, "torch"))
    outcome = found_by(model_checks(tmp_path, tokens=3))
    assert outcome.failed == ()
    assert 0 < outcome.worst < 0.2


@pytest.mark.parametrize(
    ("chosen", "replays", "fault"),
    [
        ([[1, 2, 3], [1, 2, 3], [1, 2, 3]], 3, None),
        ([[1, 2, 3], [1, 2, 3], [1, 5, 3]], 3, "replay 2 chose another token at position 1"),
        ([[1, 2, 3], [1, 2, 3], [1, 2, 3]], 1, "replay 1 did not compute what its launches do"),
    ],
)
def test_graphs_that_choose_other_tokens_or_that_a_model_does_without_are_seen(monkeypatch, chosen, replays, fault):
    ids = iter(chosen)

    def greedy(*_):
        for _replay in range(replays):
            tell("graph")
        return next(ids), None

    monkeypatch.setattr(tokens, "_loaded", lambda *_: None)
    monkeypatch.setattr(tokens, "greedy", greedy)
    assert tokens.graphs_fault(torch.device("cpu"), tokens=3) == fault


def test_torch_is_not_compared_with_itself_where_the_kernels_decline_a_model(monkeypatch):
    def declined(*_):
        raise Declined("heads of 33")

    monkeypatch.setattr("zaya_core.kernels.triton.steps.TritonSteps", declined)
    monkeypatch.setattr("zaya_core.kernels.resolve._native", declined)
    (failure,) = found_by(model_checks(Path())[:1]).failed
    assert failure.error == "DeviceError: torch computes: heads of 33; heads of 33"


@pytest.mark.long
def test_whole_models_pass(tmp_path):
    outcome = found_by(model_checks(tmp_path, tokens=1))
    assert outcome.failed == ()
    assert 0 < outcome.worst < 0.1


def test_a_model_is_asked_for_the_kernels_whatever_the_caller_asks_for(monkeypatch):
    with chosen_kernels("reference"), tokens._kernels("triton"):
        assert cpu_products().reason == "the best this processor has"
    assert program._checks(Path())[: len(KERNELS)][0].kernel == KERNELS[0].kernel
