"""Laws of which prefixes are kept: the most recently used ones that fit by number and by blocks, none counted twice."""

from __future__ import annotations

import random

import pytest
import torch

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.cache import Cache
from zaya_core.cache.prefixes import Prefix, PrefixStore
from zaya_core.engine.engine import Engine, Request
from zaya_core.engine.events import Finished
from zaya_core.errors import UsageError


@pytest.fixture
def states(model):
    return model.steps.states(None, 60)


def prefix(states, length, first=0, salt=b"", origin=None):
    """Of so many ids, with blocks for them, those of `origin` where it begins with it; nothing is computed."""
    cache = Cache.empty(states) if origin is None else Cache.from_snapshot(origin.snapshot)
    cache.tables[0].reserve(cache.row_lengths[0], length)
    cache.row_lengths = [length]
    return Prefix((first, *range(1, length)), cache.snapshot(), salt=salt)


def test_the_number_of_blocks_is_a_bound_and_the_least_recently_used_goes_first(states):
    store = PrefixStore(states, max_prefixes=100, max_blocks=6)
    for first in range(3):
        store.add(prefix(states, 2 * BLOCK, first))
    assert (len(store), store.blocks) == (3, 6)
    assert store.deepest([0, *range(1, 600)]) is not None  # used
    store.add(prefix(states, 3 * BLOCK, 7))  # three blocks: two must go
    known = [first for first in (0, 1, 2, 7) if store.known_length([first, *range(1, 800)])]
    assert known == [0, 7]
    assert states.pool.blocks_in_use == store.blocks == 5


def test_blocks_that_prefixes_share_count_once(states):
    store = PrefixStore(states, max_prefixes=100, max_blocks=4)
    origin = prefix(states, 2 * BLOCK)
    store.add(origin)
    for length in (3 * BLOCK, 4 * BLOCK):
        origin = prefix(states, length, origin=origin)
        store.add(origin)
    del origin
    assert (len(store), store.blocks, store.blocks_alone()) == (3, 4, 4)


def test_one_that_is_larger_than_all_room_is_not_kept_and_displaces_none(states):
    store = PrefixStore(states, max_prefixes=100, max_blocks=3)
    store.add(prefix(states, 300))
    store.add(prefix(states, 4 * BLOCK, 9))
    assert len(store) == 1
    nothing = PrefixStore(states, max_prefixes=0)
    nothing.add(prefix(states, 300))
    assert len(nothing) == 0


def test_to_look_for_a_length_uses_nothing(states):
    store = PrefixStore(states, max_prefixes=2)
    for first in (1, 2):
        store.add(prefix(states, 10, first))
    assert store.known_length([1, *range(1, 20)]) == 10
    store.add(prefix(states, 10, 3))
    assert [store.known_length([first, *range(1, 20)]) for first in (1, 2, 3)] == [0, 10, 10]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_counted_is_what_is_held_whatever_happens(states, seed):
    chance, store = random.Random(seed), PrefixStore(states, max_prefixes=7, max_blocks=12)
    kept: list[Prefix] = []
    for _ in range(150):
        origin = chance.choice([None, *kept[-3:]])
        shortest = 1 if origin is None else len(origin.ids) + 1
        salt = b"" if origin is None else origin.salt
        if origin is None or shortest < 900:
            one = prefix(states, chance.randint(shortest, 1000), chance.randint(0, 3), salt, origin)
            kept = [*kept[-2:], one]
            store.add(one)
        action = chance.randint(0, 5)
        if action == 0:
            store.free_a_block()
        elif action == 1:
            store.deepest([chance.randint(0, 3), *range(1, 900)])
        elif action == 2:
            store.forget_beyond([chance.randint(0, 3), *range(1, chance.randint(1, 500))])
        held = {block for one in store._prefixes.values() for block in one.blocks}
        assert (store.blocks, store.blocks <= 12, len(store) <= 7) == (len(held), True, True)
    kept.clear()
    del one, origin
    assert states.pool.blocks_in_use == store.blocks == store.blocks_alone()
    store.clear()
    assert states.pool.blocks_in_use == store.blocks == 0


def test_rows_take_the_blocks_of_many_prefixes_the_least_recently_used_first(model, tokenizer):
    engine = Engine(model, tokenizer, max_blocks=40, max_prefixes=100)
    for first in range(39):
        list(engine.generate([Request([400 + first, *range(300, 320)], max_tokens=1, keep_state=True)]))
    assert (len(engine.prefixes), engine.counters.prefix_blocks) == (39, 39)
    long = Request([302] * 500, max_tokens=90, ignore_stop_ids=True)
    (end,) = [event for event in engine.generate([long]) if isinstance(event, Finished)]
    assert end.reason == "length"
    known = [first for first in range(39) if engine.prefixes.known_length([400 + first, *range(300, 330)])]
    assert known == [*range(39 - len(known), 39)] and len(known) >= 37


@pytest.mark.parametrize("settings", [{"max_prefixes": -1}, {"max_prefixes": True}, {"prefix_blocks": -1}])
def test_an_engine_refuses_what_is_no_number_of_prefixes(model, tokenizer, settings):
    with pytest.raises(UsageError, match=next(iter(settings))):
        Engine(model, tokenizer, **settings)


@pytest.mark.parametrize(("blocks", "kept"), [(None, [250, 300, 530]), (4, [300, 530]), (1, [250]), (0, [])])
def test_a_store_of_an_engine_has_its_bounds(model, tokenizer, blocks, kept):
    """A state within a block has a block of its own there: 300 and 530 have four together."""
    engine = Engine(model, tokenizer, max_prefixes=3, prefix_blocks=blocks)
    ids = [300 + n % 50 for n in range(550)]
    with torch.inference_mode():
        list(engine.generate([Request(ids, max_tokens=1, snapshot_at=(100, 200, 250, 300, 530))]))
    assert [len(one.ids) for one in engine.prefixes.beginnings_of(ids)] == kept
