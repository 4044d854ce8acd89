"""A single token's attention over the blocks of the cache: the softmax, and the same bits on every instruction set."""

from __future__ import annotations

import pytest
import torch

from quant.kernels.native import supported_instruction_sets
from tests.core.kernels.native_attention import BLOCK, attend, by_position, expected, layer_of, near, noise

SETS = list(supported_instruction_sets())
pytestmark = pytest.mark.skipif(not SETS, reason="zaya was installed without a C++ compiler")

# H, G, K: four queries are worked on together, the rest one by one; of a head's numbers 16 are a tile and 256 are
# rounded at once.
HEADS = {"real": (8, 2, 128), "group_of_five_three_tiles": (5, 1, 48), "wide": (6, 2, 272)}
PAST = torch.tensor([0, 777])


def made(sizes, dtype, window):
    """What `attended` needs, and the first position that each row sees."""
    qkv, cache = noise(*HEADS[sizes], dtype, PAST, 1)
    begin = torch.clamp(PAST + 1 - window, min=0) if window else torch.zeros_like(PAST)
    return qkv, cache, begin


def attended(name, sizes, qkv, cache, begin):
    slots = cache.tables[torch.arange(2), PAST // BLOCK] * BLOCK + PAST % BLOCK
    query, key, value = qkv
    return attend(layer_of(name, *HEADS[sizes]), query, key, value, cache, slots, begin, PAST + 1)


def as_codes(rows):
    """Rows (..., K) rounded to 16 bits as steps do."""
    largest, most = rows.abs().amax(-1, keepdim=True), 127 * 256
    return torch.where(largest > 0, rows * (most / largest), 0).round() * (largest / most)


def with_codes(query, cache, begin, key_heads, head_dim):
    """(B, 1, H*K) from queries, and weights times value scales of each 256 positions, rounded to 16 bits."""
    keys, values, *scales = (x.float() for x in by_position(cache.storage))
    found = []
    for row, end in enumerate((PAST + 1).tolist()):
        of_row = [x[cache.tables[row]].flatten(0, 1).transpose(0, 1) for x in (keys, values, *scales)]  # (G, S, ...)
        own_keys, own_values, key_scales, value_scales = of_row
        queries = query[row].view(key_heads, -1, head_dim) * head_dim**-0.5
        pieces = zip(queries.split(256, -1), own_keys.split(256, -1), strict=True)
        scores = sum(as_codes(q) @ k.transpose(1, 2) for q, k in pieces) * key_scales[:, None]
        scores[..., : begin[row]], scores[..., end:] = float("-inf"), float("-inf")
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        codes = as_codes((weights * value_scales[:, None]).unflatten(-1, (-1, BLOCK))).flatten(-2)
        found.append((codes @ own_values / weights.sum(-1, keepdim=True)).flatten())
    return torch.stack(found)[:, None]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("sizes", HEADS)
@pytest.mark.parametrize("window", [None, 7, 300])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_it_is_the_softmax_over_what_the_token_sees(name, sizes, window, dtype):
    qkv, cache, begin = made(sizes, dtype, window)
    out = attended(name, sizes, qkv, cache, begin)
    exact = expected(qkv, cache, PAST, torch.tensor([1, 1]), window, HEADS[sizes][2])
    near(out, exact, 1e-4 if dtype == torch.int8 else 1e-5)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("sizes", HEADS)
@pytest.mark.parametrize("window", [None, 300])
def test_int8_keys_and_values_are_multiplied_by_whole_numbers_of_16_bits(name, sizes, window):
    qkv, cache, begin = made(sizes, torch.int8, window)
    out = attended(name, sizes, qkv, cache, begin)
    near(out, with_codes(qkv[0][:, 0], cache, begin, *HEADS[sizes][1:]), 2e-5)


@pytest.mark.parametrize("sizes", HEADS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_instruction_sets_change_no_bit(sizes, dtype):
    given = made(sizes, dtype, 300)
    outputs = [attended(name, sizes, *given) for name in SETS]
    assert all(torch.equal(output, outputs[0]) for output in outputs)
