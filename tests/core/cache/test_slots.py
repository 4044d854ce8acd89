"""Slots of rows' state: pairs that change places, are given back, and stay where they are."""

from __future__ import annotations

import pytest
import torch

from zaya_core.cache.layout import CacheLayout
from zaya_core.cache.slots import SlotStates
from zaya_core.cache.states import WRITTEN, CCATensors, TensorStates

LAYOUT = CacheLayout(2, 2, 4, 2, 24, torch.float32, torch.device("cpu"))
EMPTY = torch.arange(8.0).view(2, 4)


def states(max_rows=None):
    return SlotStates(LAYOUT, EMPTY, max_rows, max_blocks=2)


def numbers(rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return CCATensors(*(torch.randn(shape, generator=generator) for shape in LAYOUT.state_shapes(rows)))


def same(found, expected):
    return all(map(torch.equal, found, expected))


def test_rows_that_have_seen_nothing_are_those_of_tensors():
    owner = states()
    assert same(owner.tensors(owner.empty(3)), TensorStates(LAYOUT, EMPTY).empty(3))


@pytest.mark.parametrize("by", ["the owner", "a pass"])
def test_a_pass_writes_spare_slots_which_then_change_places(by):
    owner = states(max_rows=2)
    state = owner.empty(2)
    current, spare = state.current, state.spare
    assert not {*current} & {*spare} and len({*current, *spare}) == 4
    before, new = owner.tensors(state), numbers(2)
    if by == "a pass":
        owner.tail[:, spare], owner.delayed[:, spare] = new
        assert same(owner.tensors(state), before), "a pass that is cut short leaves the state"
    state = owner.advance(state, new if by == "the owner" else WRITTEN)
    assert (state.current, state.spare) == (spare, current)
    assert same(owner.tensors(state), new)
    assert same((owner.tail[:, current], owner.delayed[:, current]), before)


def test_no_row_has_a_slot_of_another():
    owner = states()
    state = owner.join([owner.empty(1), owner.empty(3), owner.select(owner.empty(2), [1, 0, 1])])
    assert len({*state.current, *state.spare}) == 14


def test_a_copy_and_a_snapshot_keep_their_numbers():
    owner = states()
    state = owner.advance(owner.empty(3), numbers(3))
    copy, snapshot, parked = owner.select(state, [2, 0, 2]), owner.snapshot(state), owner.park(state)
    owner.advance(owner.advance(state, numbers(3, seed=1)), numbers(3, seed=2))
    assert same(owner.tensors(copy), (tensor[:, [2, 0, 2]] for tensor in numbers(3)))
    for kept in (snapshot, parked):
        assert same(kept, numbers(3))
        assert same(owner.tensors(owner.unpark(kept)), numbers(3))
        assert same(owner.tensors(owner.restore(kept)), numbers(3))


def test_slots_are_free_when_nobody_has_them_and_once_only():
    owner = states(max_rows=3)
    pairs = owner.free_pairs
    first, second = owner.empty(2), owner.empty(1)
    joined = owner.join([first, second])
    assert owner.free_pairs == pairs - 3
    del first, second
    assert owner.free_pairs == pairs - 3
    del joined
    assert owner.free_pairs == pairs
    state = owner.empty(pairs)
    assert sorted([*state.current, *state.spare]) == list(range(2 * pairs))


def test_slots_grow_when_they_must_and_keep_their_numbers():
    owner = states()
    assert owner.generation == 0
    rows = [owner.advance(owner.empty(1), numbers(1, seed)) for seed in range(9)]
    assert owner.generation > 1
    assert all(same(owner.tensors(state), numbers(1, seed)) for seed, state in enumerate(rows))
    bounded = states(max_rows=2)
    address = bounded.tail.data_ptr()
    kept = [bounded.empty(2), bounded.empty(2), bounded.empty(1), bounded.empty(1)]
    assert (bounded.generation, bounded.tail.data_ptr()) == (1, address)
    kept.append(bounded.empty(bounded.free_pairs + 1))
    assert bounded.generation == 2, "whoever has the addresses can see that they are others now"


def test_a_state_of_other_rows_or_of_another_owner_is_refused():
    owner = states()
    state = owner.empty(2)
    owner.expect(state, 2)
    owner.expect(owner.snapshot(state), 2)
    for other, rows in ((state, 3), (states().empty(2), 2), (numbers(1), 2)):
        with pytest.raises(ValueError, match=f"a state of {rows} rows"):
            owner.expect(other, rows)


def test_bytes_of_a_state_are_those_of_its_pairs():
    owner = states()
    assert owner.nbytes(owner.empty(3)) == 2 * numbers(3).nbytes
    assert owner.nbytes(numbers(3)) == numbers(3).nbytes


def test_tensors_take_no_pass_that_has_written_its_state_elsewhere():
    plain = TensorStates(LAYOUT, EMPTY)
    with pytest.raises(ValueError, match="nowhere"):
        plain.advance(plain.empty(1), WRITTEN)
