"""The estimate of memory agrees with what is loaded, and with the sizes of the published model."""

from __future__ import annotations

import math

import pytest
import torch

from tests.core.model_parts import layers_of, parts_of
from tests.core.tiny_models import VARIANTS, reference_model, save_native
from zaya_core.config.parse import parse_config, read_config
from zaya_core.machine.memory_fit import WORKSPACE_BYTES, MemoryNeed, longest_context, memory_need, weight_bytes

PUBLISHED = parse_config({"model_type": "zaya", "layer_types": ["hybrid"] * 40})


@pytest.mark.parametrize(("format", "gigabytes"), [("bf16", 17.76), ("int8", 8.96), ("int4", 5.19)])
def test_the_published_model_has_its_sizes(format, gigabytes):
    assert weight_bytes(PUBLISHED, format) / 1e9 == pytest.approx(gigabytes, abs=0.005)


@pytest.mark.parametrize("variant", ["base", "untied_head_with_bias", "one_sliding_layer"])
def test_bf16_is_what_a_loaded_model_holds(variant, tmp_path):
    """Biases of projections and head, which are a few bytes, are counted as float32 here."""
    assert variant in VARIANTS
    folder = save_native(reference_model(variant, dtype=torch.bfloat16), tmp_path)
    parts = parts_of(folder)
    held = sum(tensor.nbytes for tensor in _tensors([*layers_of(parts), parts.embedding(), parts.head()]))
    config = read_config(folder)
    assert weight_bytes(config, "bf16") == pytest.approx(held, rel=0.02)


def _tensors(parts):
    """Every distinct parameter that a model's parts hold, found by walking their objects."""
    found, seen, waiting = {}, set(), list(parts)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            found[value.data_ptr(), math.prod(value.shape)] = value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif hasattr(value, "__dict__"):
            waiting += vars(value).values()
    return found.values()


def test_keys_and_values_grow_with_the_context_up_to_the_models():
    need = memory_need(PUBLISHED, 10**9, 1000)
    assert need.keys_and_values == 1000 * 40_960
    assert need.total == 10**9 + 1000 * 40_960 + WORKSPACE_BYTES
    assert memory_need(PUBLISHED, 0, 10**9).keys_and_values == 131_072 * 40_960


@pytest.mark.parametrize(
    ("total", "free", "verdict"), [(100, 100, "fits"), (100, 99, "tight"), (99, 99, "does not fit"), (200, 0, "tight")]
)
def test_the_verdict_is_against_what_is_free_then_all(total, free, verdict):
    assert MemoryNeed(60, 30, 10).verdict(total, free) == verdict


@pytest.mark.parametrize("memory", [0, 10**9, 7 * 10**9, 8 * 10**9, 16 * 10**9, 10**12])
def test_the_longest_context_is_the_longest_that_fits(memory):
    weights = weight_bytes(PUBLISHED, "int4")
    tokens = longest_context(PUBLISHED, weights, memory)
    assert tokens % 1024 == 0
    assert tokens == 0 or memory_need(PUBLISHED, weights, tokens).total <= memory
    if tokens < PUBLISHED.max_position_embeddings:
        assert memory_need(PUBLISHED, weights, tokens + 1024).total > memory
