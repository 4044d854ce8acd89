"""What a model needs on a graphics card, in bytes, and what of it has room there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from quant import card_products
from tests.core.model_parts import layers_of, parts_of
from tests.core.tiny_models import reference_model, save_native
from zaya_core.cache.arrangement import BLOCK as BLOCK_OF_THE_CACHE
from zaya_core.cache.layout import CacheLayout
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.config.parse import parse_config, read_config
from zaya_core.machine import card_fit
from zaya_core.machine.card_fit import BLOCK, CHUNK, SLICE, OnCard, usable_bytes
from zaya_core.machine.memory_fit import expert_bytes, loaded_bytes, packed_as, weight_bytes
from zaya_core.model.model import PREFILL_CHUNK

GB = 10**9
PUBLISHED = parse_config({"model_type": "zaya", "layer_types": ["hybrid"] * 40})
INT4 = OnCard(packed_as(PUBLISHED, "int4"))


def test_the_sizes_of_chunks_and_blocks_are_those_that_are_computed_with():
    assert (CHUNK, BLOCK, SLICE) == (PREFILL_CHUNK, BLOCK_OF_THE_CACHE, card_products.SLICE)


@pytest.mark.parametrize(
    ("total", "free", "most", "usable"),
    [
        (24, 23, None, 20.6),  # a tenth of the card is left alone
        (4, 3.5, None, 2.9),  # and 0.6 GB of a small one
        (24, 23, 7.5, 6.75),  # and of what was granted
        (24, 23, 2, 1.4),
        (24, 5, 7.5, 2.6),  # others have the rest
        (24, 23, 100, 20.6),
        (24, 1, None, 0),
        (24, 23, 0.5, 0),
    ],
)
def test_a_part_of_a_card_is_left_alone(total, free, most, usable):
    granted = None if most is None else int(most * GB)
    assert usable_bytes(total * GB, int(free * GB), granted) == pytest.approx(usable * GB, abs=2)


@pytest.mark.parametrize("format", ["bf16", "int8", "int4"])
def test_weights_are_those_of_the_format_less_the_experts_that_stay_in_main_memory(format):
    config = packed_as(PUBLISHED, format)
    whole = OnCard(config).need.weights
    assert whole == loaded_bytes(config) == weight_bytes(PUBLISHED, format)
    assert whole - OnCard(config, cpu_experts=10).need.weights == 10 * expert_bytes(config)
    without = OnCard(config, cpu_experts=40).need.weights
    assert without / GB == pytest.approx(1.66 if format == "bf16" else 0.91, abs=0.005)


@pytest.mark.parametrize(("format", "megabytes"), [("bf16", 402.7), ("int8", 201.3), ("int4", 107.0)])
def test_the_experts_of_a_layer_have_their_bytes(format, megabytes):
    assert expert_bytes(packed_as(PUBLISHED, format)) / 1e6 == pytest.approx(megabytes, abs=0.05)


def test_in_float32_what_is_not_packed_takes_twice_the_room():
    bf16, int8 = (OnCard(packed_as(PUBLISHED, format)) for format in ("bf16", "int8"))
    assert replace(bf16, bytes_per_value=4).need.weights == pytest.approx(2 * bf16.need.weights, rel=0.02)
    assert replace(int8, bytes_per_value=4).need.weights == int8.need.weights
    assert replace(int8, bytes_per_value=4).need.keys_and_values == 2 * int8.need.keys_and_values


@pytest.mark.parametrize(("dtype", "value"), [(torch.bfloat16, 2), (torch.float32, 4)])
def test_a_loaded_model_has_the_bytes_that_are_counted(dtype, value, tmp_path):
    folder = save_native(reference_model("base", dtype=dtype), tmp_path)
    config, parts = read_config(folder), parts_of(folder)
    stacks = [stack for layer in layers_of(parts) for stack in (layer.experts.gate_up_proj, layer.experts.down_proj)]
    assert sum(stack.nbytes for stack in stacks) == config.num_hidden_layers * expert_bytes(config, value)
    checkpoint = open_checkpoint(folder)
    stored = sum(checkpoint.stored_bytes(name) for name in checkpoint.parameters)
    assert stored <= loaded_bytes(config, value) <= 1.3 * stored  # its small parameters are not small


@pytest.mark.parametrize("kv", ["auto", "int8"])
@pytest.mark.parametrize(("dtype", "value"), [(torch.bfloat16, 2), (torch.float32, 4)])
def test_keys_values_and_states_have_the_bytes_of_the_cache(kv, dtype, value):
    layout = CacheLayout.of(PUBLISHED, dtype, torch.device("cpu"), kv)
    placed = OnCard(PUBLISHED, context=1000, rows=5, kv=kv, bytes_per_value=value)
    assert placed.need.keys_and_values == 4 * layout.bytes_per_block
    one_row = sum(torch.Size(shape).numel() for shape in layout.state_shapes(1)) * dtype.itemsize
    more = replace(placed, rows=6).need.workspace - placed.need.workspace
    assert more == 3 * one_row


def test_work_grows_with_the_context_and_is_bounded_beside_it():
    short, long = (OnCard(PUBLISHED, context).need.workspace for context in (BLOCK, 131_072))
    assert (long - short) // (131_072 - BLOCK) == 2 * 256 * 6 + CHUNK
    assert card_fit.SCORES_BYTES < short < 2 * card_fit.SCORES_BYTES
    many = OnCard(PUBLISHED, BLOCK, rows=1024).need.workspace
    assert many > 1024 * 4 * PUBLISHED.vocab_size  # logits


@pytest.mark.parametrize("gigabytes", [2, 3, 4.5, 5.3, 6, 7.3, 9, 20])
@pytest.mark.parametrize("format", ["bf16", "int8", "int4"])
def test_the_fewest_experts_beside_a_card_are_the_fewest_that_fit(format, gigabytes):
    placed, usable = OnCard(packed_as(PUBLISHED, format)), int(gigabytes * GB)
    fewest = placed.with_fewest_cpu_experts(usable)
    if fewest is None:
        assert not replace(placed, cpu_experts=40).fits(usable)
    else:
        assert fewest.fits(usable)
        assert fewest.cpu_experts == 0 or not replace(fewest, cpu_experts=fewest.cpu_experts - 1).fits(usable)


@pytest.mark.parametrize("gigabytes", [4, 6, 6.5, 8, 12])
def test_the_longest_context_on_a_card_is_the_longest_that_fits(gigabytes):
    usable = int(gigabytes * GB)
    tokens = INT4.longest_context(usable)
    assert tokens % 1024 == 0
    assert tokens == 0 or replace(INT4, context=tokens).fits(usable)
    if tokens < 131_072:
        assert not replace(INT4, context=tokens + 1024).fits(usable)


def test_the_pool_is_what_is_left_up_to_what_all_rows_can_use():
    usable = INT4.need.total + 10 * GB
    blocks = replace(INT4, rows=16).pool_blocks(usable, longest=131_072)
    assert blocks > replace(INT4, rows=16).pool_blocks(usable - GB, longest=131_072)
    assert replace(INT4, context=BLOCK * blocks).fits(usable) or BLOCK * blocks > 131_072
    assert replace(INT4, rows=16).pool_blocks(usable, longest=1000) == 16 * 4
    assert replace(INT4, rows=1).pool_blocks(10**12, longest=131_072) == 512


def test_a_pool_that_was_forced_holds_one_conversation():
    assert INT4.pool_blocks(0, longest=131_072) == 16_384 // BLOCK
    tiny = replace(INT4, config=replace(INT4.config, max_position_embeddings=300))
    assert tiny.pool_blocks(0, longest=300) == 2


@pytest.mark.parametrize("context", [2, 255, 256, 257, 5000, 16_384, 131_072])
def test_what_fits_has_blocks_for_its_context(context):
    placed = replace(INT4, context=context)
    assert placed.pool_blocks(placed.need.total, longest=131_072) >= -(-context // BLOCK)


@pytest.mark.parametrize(
    ("rows", "gigabytes", "expected"),
    [(1024, 18, 1024), (1024, 9, 256), (1024, 6.8, 64), (1024, 1, 16), (300, 6.9, 75), (16, 1, 16), (3, 1, 3)],
)
def test_more_rows_than_fit_at_once_become_fewer(rows, gigabytes, expected):
    found = replace(INT4, rows=rows).with_fewer_rows(int(gigabytes * GB), least=16)
    assert found.rows == expected
    assert found.fits(int(gigabytes * GB)) or found.rows <= 16
