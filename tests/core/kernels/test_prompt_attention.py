"""A prompt's attention over the blocks of the cache is softmax(q k^T / sqrt(K)) v; a token's bits are its own."""

from __future__ import annotations

import pytest
import torch

from quant.kernels.native import supported_instruction_sets
from tests.core.kernels.native_attention import expected, layer_of, near, noise
from zaya_core.kernels.layer import has_prompt_attention
from zaya_core.kernels.prompt_attention import attend_prompt, can_attend

SETS = [name for name, products in supported_instruction_sets().items() if has_prompt_attention(products)]
pytestmark = pytest.mark.skipif(not SETS, reason="no native prompt attention on this machine")

HEADS = {"grouped": (8, 2, 128), "odd_group": (3, 1, 32), "each_its_own": (2, 2, 64)}  # H, G, K


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("sizes", HEADS)
@pytest.mark.parametrize("window", [None, 7, 300])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
def test_it_is_the_softmax_over_what_each_token_sees(name, sizes, window, dtype):
    heads, key_heads, head_dim = HEADS[sizes]
    past, lengths = torch.tensor([0, 777]), torch.tensor([37, 21])
    qkv, cache = noise(heads, key_heads, head_dim, dtype, past, 37)
    layer = layer_of(name, heads, key_heads, head_dim)
    out = attend_prompt(layer, qkv, cache, past, lengths, window)
    target = expected(qkv, cache, past, lengths, window, head_dim)
    near(out, target, 1e-5 if name != "avx512bf16" else 0.015)  # the other rounds queries and weights to bf16
    assert not out[1, 21:].any()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("factor", [0.0, 40.0, 1e4])
def test_scores_of_any_size_make_weights_that_sum_to_one(name, factor):
    heads, key_heads, head_dim = HEADS["grouped"]
    past, lengths = torch.tensor([333]), torch.tensor([40])
    qkv, cache = noise(heads, key_heads, head_dim, torch.bfloat16, past, 40)
    qkv[0] *= factor  # the largest score grows by hundreds from one run of positions to the next, and weights vanish
    cache.storage[1].fill_(1.5)
    qkv[2].fill_(1.5)
    out = attend_prompt(layer_of(name, heads, key_heads, head_dim), qkv, cache, past, lengths, None)
    near(out, torch.full_like(out, 1.5), 1e-5 if name != "avx512bf16" else 0.004)


@pytest.mark.parametrize("name", SETS)
def test_positions_that_were_never_written_are_not_read_into_anything(name):
    heads, key_heads, head_dim = HEADS["grouped"]
    past, lengths = torch.tensor([0]), torch.tensor([19])
    qkv, cache = noise(heads, key_heads, head_dim, torch.bfloat16, past, 19)
    for tensor in cache.storage:
        tensor.fill_(float("nan"))
    layer = layer_of(name, heads, key_heads, head_dim)
    assert attend_prompt(layer, qkv, cache, past, lengths, None).isfinite().all()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("window", [None, 100])
def test_a_token_has_the_same_bits_in_any_chunk_beside_any_row_and_on_any_number_of_threads(name, window):
    heads, key_heads, head_dim = HEADS["grouped"]
    past, lengths = torch.tensor([500, 3]), torch.tensor([70, 70])
    qkv, cache = noise(heads, key_heads, head_dim, torch.bfloat16, past, 70)
    layer = layer_of(name, heads, key_heads, head_dim)
    whole = attend_prompt(layer, qkv, cache, past, lengths, window)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 4):
            torch.set_num_threads(threads)
            assert torch.equal(attend_prompt(layer, qkv, cache, past, lengths, window), whole)
    finally:
        torch.set_num_threads(before)
    for row, begin, end in ((0, 0, 1), (0, 1, 18), (0, 18, 70), (1, 0, 33), (1, 33, 70)):
        one = slice(row, row + 1)
        part = attend_prompt(
            layer,
            [x[one, begin:end] for x in qkv],
            cache._replace(tables=cache.tables[one]),
            past[one] + begin,
            torch.tensor([end - begin]),
            window,
        )
        assert torch.equal(part, whole[one, begin:end])


def test_widths_that_do_not_fill_the_pairs_are_left_to_others():
    assert not can_attend(layer_of(SETS[0], 2, 1, 48), torch.bfloat16)
    assert not can_attend(layer_of(SETS[0], 2, 1, 64), torch.float32)
    assert can_attend(layer_of(SETS[0], 2, 1, 64), torch.bfloat16)
    qkv, cache = noise(2, 1, 64, torch.float32, torch.tensor([0]), 3)
    with pytest.raises(ValueError, match="float32"):
        attend_prompt(layer_of(SETS[0], 2, 1, 64), qkv, cache, torch.tensor([0]), torch.tensor([3]), None)
