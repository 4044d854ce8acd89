"""Which model is taken when none is named: the closest to the published weights that fits."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from zaya_cli.machine.hardware import Memory
from zaya_cli.models.choice import choose
from zaya_cli.models.folder import DEFAULT_REPO
from zaya_cli.models.inventory import PresentModel
from zaya_core.config.parse import parse_config
from zaya_core.errors import MemoryFitError, ModelNotFoundError

ZAYA = {"model_type": "zaya", "layer_types": ["hybrid"] * 40}
GB = 10**9
CONFIG = parse_config(ZAYA)


def model(name, format, gigabytes, is_default_family=True, place="quantized", problem=None):
    return PresentModel(name, Path(name), place, format, int(gigabytes * GB), is_default_family, CONFIG, problem)


BF16, INT8 = model(DEFAULT_REPO, "bf16", 17.7, place="hub"), model("ZAYA1-8B-int8", "int8", 9)
INT4, SMALL = model("ZAYA1-8B-int4", "int4 (dense int8)", 5.5), model("ZAYA1-8B-small", "int4", 4.9)
BASE = model("Zyphra/ZAYA1-base", "bf16", 17.7, is_default_family=False, place="hub")
DEMO = dataclasses.replace(
    model("demo", "bf16", 0.005, is_default_family=False, place="bundled"),
    config=parse_config({**ZAYA, "vocab_size": 704}),
)


@pytest.mark.parametrize(
    ("models", "total", "free", "expected"),
    [
        ([DEMO, SMALL, INT4, INT8, BF16], 64, 60, BF16),
        ([DEMO, SMALL, INT4, INT8, BF16], 24, 16, INT8),
        ([SMALL, INT4, INT8, BF16], 16, 8, INT4),
        ([INT8, BF16], 24, 3, BF16),
        ([INT8, BF16], 16, 3, INT8),
        ([SMALL, INT4], 64, 60, INT4),
        ([BASE, SMALL], 64, 60, SMALL),
        ([BASE], 64, 60, BASE),
        ([dataclasses.replace(BF16, problem="damaged"), INT4], 64, 60, INT4),
    ],
)
def test_the_model_closest_to_the_published_weights_that_fits_is_taken(models, total, free, expected):
    choice = choose(models, Memory("main memory", total * GB, free * GB))
    assert choice.model is expected
    assert "GB" in choice.reason


def test_the_reason_names_the_better_model_and_the_numbers():
    reason = choose([INT4, BF16], Memory("main memory", 8 * GB, 8 * GB)).reason
    assert DEFAULT_REPO in reason
    assert "8.00 GB" in reason


def test_a_longer_context_needs_a_smaller_format():
    memory = Memory("main memory", 15 * GB, 15 * GB)
    assert choose([INT8, INT4], memory, 4096).model is INT8
    assert choose([INT8, INT4], memory, 131_072).model is INT4


def test_nothing_that_fits_is_an_error_with_the_numbers():
    with pytest.raises(MemoryFitError, match=r"ZAYA1-8B-small.*6\.27 GB"):
        choose([SMALL, BF16], Memory("main memory", 4 * GB, 4 * GB))


def test_a_bundled_model_and_what_was_made_of_it_are_never_taken():
    made_of_it = dataclasses.replace(DEMO, name="demo-int4", place="quantized")
    with pytest.raises(ModelNotFoundError, match="zaya pull"):
        choose([DEMO, made_of_it], Memory("main memory", 64 * GB, 64 * GB))
