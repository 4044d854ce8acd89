"""On a card a bounded pool of keys and values is allocated at once, on a CPU as it is needed."""

from __future__ import annotations

import pytest
import torch

from tests.gpu.simulated_card import Card, simulated_cards
from zaya_core.cache import blocks
from zaya_core.cache.blocks import BlockTable
from zaya_core.cache.cache import Cache
from zaya_core.cache.layout import CacheLayout
from zaya_core.cache.states import TensorStates
from zaya_core.cache.step import CacheStep
from zaya_core.errors import MemoryFitError

CARD, CPU = torch.device("meta"), torch.device("cpu")  # one that holds no numbers stands for a card
LAYERS = 3


def pool_on(device, max_blocks, kv="auto"):
    layout = CacheLayout(LAYERS, 2, 16, 2, 64, torch.bfloat16, device, kv)
    return TensorStates(layout, torch.zeros(LAYERS, 16, device=device), max_blocks).pool


def sizes(pool):
    return {len(storage) for layers in pool.tensors.values() for storage in layers}


@pytest.mark.parametrize("kv", ["auto", "int8"])
def test_a_bounded_pool_on_a_card_is_there_at_once_and_never_moves(monkeypatch, kv):
    made: list[int] = []

    def zeros(shape, dtype, device):
        made.append(shape[0])
        return torch.zeros(shape, dtype=dtype, device=device)

    monkeypatch.setattr(blocks, "zeros_in_large_pages", zeros)
    pool = pool_on(CARD, 9, kv)
    assert sizes(pool) == {9}
    assert sum(one.nbytes for layers in pool.tensors.values() for one in layers) == 9 * pool.layout.bytes_per_block
    before = pool.generation
    assert [pool.allocate() for _ in range(9)] == list(range(9))
    assert (pool.generation, pool.blocks_left) == (before, 0)
    assert made == [9] * len(pool.tensors) * LAYERS  # each once, and nothing was copied
    with pytest.raises(MemoryFitError, match="9 blocks of 256"):
        pool.allocate()
    pool.release([4])
    assert pool.allocate() == 4


def test_on_a_cpu_it_grows_as_blocks_are_needed():
    pool = pool_on(CPU, 9)
    found = [(pool.allocate(), sizes(pool)) for _ in range(9)]
    assert [size for _, size in found] == [{4}] * 4 + [{8}] * 4 + [{9}]


def test_a_pool_without_a_bound_is_empty_until_it_is_used():
    """As that of `ZayaModel.states`, beside the pool of an Engine."""
    pool = pool_on(CARD, None)
    assert sizes(pool) == {0}
    pool.allocate()
    assert sizes(pool) == {4}


def test_a_card_that_has_no_room_for_the_pool_says_so_when_it_is_made(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(blocks, "zeros_in_large_pages", full)
    with pytest.raises(torch.OutOfMemoryError):
        pool_on(CARD, 9)
    pool_on(CARD, None)
    pool_on(CPU, 9)


def test_a_pass_keeps_of_each_layer_what_the_next_token_needs():
    """Not what it is cut from: of all layers that would be the queries and keys of a chunk more each."""
    layout = CacheLayout(LAYERS, 2, 16, 2, 64, torch.bfloat16, CPU)
    cache = Cache.empty(TensorStates(layout, torch.zeros(LAYERS, 16, dtype=torch.bfloat16)))
    with CacheStep.begin(cache, 200) as step:
        for _ in range(LAYERS):
            step.keep_state(torch.ones(1, 2 + 200, 64).bfloat16(), torch.ones(1, 1 + 200, 16).bfloat16())
        kept = [*step._tails, *step._delayed]
        assert [one.untyped_storage().nbytes() for one in kept] == [one.nbytes for one in kept]


def test_what_is_read_to_be_written_to_a_file_is_in_host_memory_and_never_twice_on_the_card():
    with simulated_cards(Card()) as (card,):
        pool = pool_on(torch.device("cuda"), 9)
        table = BlockTable(pool)
        table.reserve(0, 1500)
        held, card.peak = card.held, card.held
        found = table.read(1500)
        assert {one.device for one in found.values()} == {CPU}
        assert card.peak - held < 2 * pool.layout.bytes_per_block * len(table.blocks) // (2 * LAYERS)
