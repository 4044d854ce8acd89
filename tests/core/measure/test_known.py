"""Which model is judged by published numbers, and how many of them rounding may change."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.full_size_checkpoint import original_config
from demo.evaluate import BUNDLED
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.config.parse import parse_config
from zaya_core.measure.checkup.distributions import compare_logits
from zaya_core.measure.checkup.golden import NOBODY, known
from zaya_core.measure.checkup.likeliest import compare_likeliest
from zaya_core.measure.checkup.settings import check_settings
from zaya_core.measure.dummy import full_size_config

CONFIG = parse_config(full_size_config())
ZAYA = known(CONFIG, ["Zyphra/ZAYA1-8B"])
# From the transformers test of ZAYA, a second time: tests/test_golden.py asks the real weights for them.
LIKELIEST = [105, 9731, 107, 740, 564, 1601, 611, 236881, 236881, 107, 107]
GREEDY = [107, 262146, 108, 9259, 236888, 2088, 740, 564, 6361, 611, 3124, 236881, 108, 236769, 10282, 236787]


@pytest.mark.parametrize(
    ("name", "is_named"),
    [
        ("Zyphra/ZAYA1-8B", True),
        ("zyphra/zaya1-8b", True),
        ("ZAYA1-8B", True),
        ("Zyphra/ZAYA1-8B-legacy", True),
        ("Zyphra/ZAYA1-8B-FP8-Experts", True),
        ("Zyphra/ZAYA1-8B-MXFP4-Experts", True),
        ("Zyphra--ZAYA1-8B-int4", True),
        ("Zyphra--ZAYA1-8B-int8-dense-int4", True),
        ("kyr0/ZAYA1-8B-4bit", True),
        ("Zyphra/ZAYA1-base", False),
        ("Zyphra/ZAYA1-reasoning-base", False),
        ("Zyphra/ZAYA1-VL-8B", False),
        ("Zyphra/ZAYA1-8B-Diffusion-Preview", False),
        ("somebody/ZAYA1-8B-my-finetune", False),
        ("Zyphra--ZAYA1-base-int4", False),
        ("weights", False),
        ("", False),
    ],
)
def test_a_model_is_judged_by_its_sizes_and_its_name(name, is_named):
    found = known(CONFIG, ["weights", name])
    assert found.golden is ZAYA.golden
    assert found.is_named == is_named
    assert (found.judge is not None) == is_named


@pytest.mark.parametrize("other", [{"num_hidden_layers": 60}, {"hidden_size": 4096}, {"sliding_window": 4097}])
def test_other_sizes_are_nobodys_whatever_they_are_called(other):
    assert known(replace(CONFIG, **other), ["Zyphra/ZAYA1-8B"]) == NOBODY


def test_the_bundled_model_is_known_by_its_sizes_alone():
    found = known(ModelFolder(BUNDLED).config, ["copy"])
    assert found.is_named and found.golden is not None and found.golden.name == "the bundled demo"


def test_both_published_layouts_have_the_published_settings():
    for raw in (full_size_config(), original_config(40)):
        config = parse_config(raw)
        found = known(config, ["Zyphra/ZAYA1-8B"])
        assert found.is_named
        assert list(check_settings(config, found)) == []


@pytest.mark.parametrize(("name", "state"), [("Zyphra/ZAYA1-8B", "problem"), ("Zyphra/ZAYA1-base", "note")])
def test_a_setting_that_no_shape_shows_is_named(name, state):
    rope = {"hybrid": {"rope_type": "default", "rope_theta": 10_000, "partial_rotary_factor": 0.5}}
    config = parse_config(full_size_config() | {"rope_parameters": rope})
    (found,) = check_settings(config, known(config, [name]))
    assert (found.state, found.text) == (
        state, "config.json is not that of ZAYA1-8B: rope_theta is 10000.0 in place of 5000000.0"
    )  # fmt: skip


def test_the_published_numbers_are_the_published_ones():
    golden = ZAYA.golden
    assert golden is not None
    assert (golden.likeliest, golden.greedy) == (LIKELIEST, GREEDY)
    assert golden.ids[0] == 2 and golden.ids[-1] == 106 and golden.ids[1:-1] == golden.text_ids


class _Model:
    """Finds the ids likeliest that it is told to; `misses` are (position, lead) of those where it finds 5 instead."""

    device = torch.device("cpu")

    def __init__(self, kind=None, row=(), greedy=()):
        experts = None if kind is None else SimpleNamespace(experts=kind)
        self.config = SimpleNamespace(quantization=experts, vocab_size=CONFIG.vocab_size)
        self.logits = self.of(LIKELIEST, row), self.of(GREEDY, greedy)
        self.logits[0][-3:, -3:] = torch.tensor([0.3613, -1.3672, -2.875]).half()[:, None]

    def of(self, likeliest, misses):
        logits = torch.full((len(likeliest), CONFIG.vocab_size), -20.0, dtype=torch.float16)
        logits[torch.arange(len(likeliest)), torch.tensor(likeliest)] = 10.0
        for position, lead in misses:
            logits[position, 5] = 10.0 + lead
        return logits

    def new_cache(self):
        return []

    def __call__(self, ids, cache=None, last_only=False):
        if cache is None:
            return self.logits[0][None]
        cache.append(ids)
        return self.logits[1][None, len(cache) - 1 : len(cache)]


Model: Any = _Model  # stands for a ZayaModel


@pytest.mark.parametrize(
    ("kind", "misses", "state"),
    [
        (None, [], "ok"),
        (None, [(4, 0.2)], "note"),
        (None, [(4, 0.9)], "problem"),
        (None, [(4, float("nan"))], "problem"),
        (None, [(4, 0.2), (5, 0.2)], "problem"),
        ("int8", [(4, 3.0)], "ok"),
        ("fp8", [(4, 0.2), (5, 0.9)], "note"),
        ("int8", [(4, 0.2), (5, 2.0)], "problem"),
        ("int4", [(1, 3.0), (4, 3.0), (5, 3.0)], "ok"),
        ("mxfp4", [(1, 0.2), (4, 0.2), (5, 0.2), (6, 0.2)], "note"),
        ("int4", [(1, 0.2), (4, 0.2), (5, 0.2), (6, 3.0)], "problem"),
        ("int4", [(at, 0.2) for at in range(5)], "problem"),
    ],
)
def test_so_many_likeliest_ids_may_differ_with_so_many_bits(kind, misses, state):
    """In one pass, and step by step behind it: each by itself."""
    for row, greedy, states in ((misses, [], [state, "ok"]), ([], misses, ["ok", state])):
        found = list(compare_likeliest(Model(kind, row, greedy), ZAYA))
        assert [one.topic for one in found] == ["known ids", "greedy"]
        assert [one.state for one in found] == states


def test_what_differs_is_said_in_one_sentence():
    (row, greedy) = compare_likeliest(Model(row=[(4, 0.9)]), ZAYA)
    source = "the slow test of ZAYA in transformers"
    assert row.text == (
        f"10 of 11 likeliest as in {source}; at 4 5 leads 564 by 0.90: other weights, damaged files, or a fault of zaya"
    )
    assert greedy.text == f"16 of 16 that follow as in {source}"


def test_a_model_of_another_name_is_compared_and_not_judged():
    other = known(CONFIG, ["Zyphra/ZAYA1-base"])
    (found,) = compare_likeliest(Model(row=[(4, 9.0), (5, 9.0)]), other)
    assert found.state == "note"
    assert found.text.endswith("damaged files, or a fault of zaya; it is called otherwise, hence not judged")
    follows = [one.state for one in compare_likeliest(Model(greedy=[(4, 9.0), (5, 9.0)]), other)]
    assert follows == ["ok", "note"]
    assert [one.state for one in compare_likeliest(Model(), other)] == ["ok", "ok"]
    assert list(compare_logits(Model(), other)) == []
    assert list(compare_likeliest(Model(), NOBODY)) == []


def test_the_last_logits_are_held_loosely_against_both_known_ones():
    model = Model()
    assert list(compare_logits(model, ZAYA)) == []
    model.logits[0][-3:, -3:] = torch.tensor([0.0225, -1.4297, -3.0469]).half()[:, None]
    assert list(compare_logits(model, ZAYA)) == []
    model.logits[0][:, -3:] += 3
    (found,) = compare_logits(model, ZAYA)
    assert (found.state, found.topic) == ("note", "logits")
