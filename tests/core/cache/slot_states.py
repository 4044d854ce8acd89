"""Rows' state in slots at fixed addresses, as a card keeps it: nothing moves but numbers of slots."""

from __future__ import annotations

import torch

from zaya_core.cache.arrangement import packed_words
from zaya_core.cache.blocks import BlockPool
from zaya_core.cache.states import CCATensors
from zaya_core.kernels.reference import ReferenceSteps


class Slots:
    """Numbers of rows' slots, which are free again when nobody has this."""

    def __init__(self, states, count):
        self.states, self.numbers = states, [states.free.pop() for _ in range(count)]

    def __del__(self):
        self.states.free += self.numbers


class SlotStates:
    """See `RowStates`. State: tensors (L, slots, ...) that never move, and which slots are free."""

    def __init__(self, layout, empty_delayed, slots, max_blocks):
        arrangements = packed_words(layout.num_key_value_heads, layout.head_dim, layout.kv_dtype)
        self.pool = BlockPool(layout, arrangements, max_blocks)
        shapes = layout.state_shapes(slots)
        self.fixed = CCATensors(*(torch.full(shape, torch.nan, dtype=layout.dtype) for shape in shapes))
        self.free, self.empty_delayed = list(range(slots)), empty_delayed

    def empty(self, rows):
        tail = torch.zeros(self.pool.layout.state_shapes(rows)[0], dtype=self.pool.layout.dtype)
        return self.unpark(CCATensors(tail, self.empty_delayed[:, None].repeat(1, rows, 1)))

    def join(self, states):
        joined = Slots(self, 0)
        for state in states:  # their slots move over, and no number is copied
            joined.numbers += state.numbers
            state.numbers = []
        return joined

    def select(self, state, rows):
        return self.unpark(CCATensors(*(tensor[:, list(rows)] for tensor in self.tensors(state))))

    def tensors(self, state):
        return state if isinstance(state, CCATensors) else CCATensors(*(one[:, state.numbers] for one in self.fixed))

    def advance(self, state, new):
        for fixed, numbers in zip(self.fixed, new, strict=True):
            fixed[:, state.numbers] = numbers
        return state

    def snapshot(self, state):
        return CCATensors(*(tensor.clone() for tensor in self.tensors(state)))

    def restore(self, snapshot):
        return self.unpark(snapshot)

    def park(self, snapshot):
        return self.snapshot(snapshot)

    def unpark(self, parked):
        return self.advance(Slots(self, parked.conv_tail.shape[1]), parked)

    def expect(self, state, rows):
        if self.tensors(state).conv_tail.shape[1] != rows:
            raise ValueError(f"a state of {rows} rows must be in as many slots")

    def nbytes(self, state):
        return self.tensors(state).nbytes


class SlotSteps(ReferenceSteps):
    """See `Steps`."""

    def states(self, max_rows=None, max_blocks=None):
        return SlotStates(self._layout, self._empty_delayed, 2 * (max_rows or 32), max_blocks)
