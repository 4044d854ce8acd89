"""Rows' state in slots at fixed addresses, for a step that is recorded once and run on whatever the slots hold.

Each row has a pair of slots: its state, and a spare one into which a pass writes the state behind it. After the pass
they change places: a pass that is cut short leaves the state as it was, and no slot is read and written at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zaya_core.cache.arrangement import head_rows
from zaya_core.cache.blocks import BlockPool
from zaya_core.cache.layout import CacheLayout
from zaya_core.cache.states import CCATensors, Written, empty_state, expect_state

_LEAST_PAIRS = 4


class Slots:
    """A state: by row the slots `current`, where it is, and `spare`, into which the next pass writes.

    They are free again when nobody has this.
    """

    def __init__(self, free: list[tuple[int, int]], pairs: Sequence[tuple[int, int]]):
        """free: where the pairs go in the end."""
        self.current = [current for current, _ in pairs]
        self.spare = [spare for _, spare in pairs]
        self._free = free

    def __len__(self) -> int:
        return len(self.current)

    def swap(self) -> None:
        """What a pass has written becomes the state."""
        self.current, self.spare = self.spare, self.current

    def give_up(self) -> list[tuple[int, int]]:
        """The pairs, for another state; this one has none left."""
        pairs = list(zip(self.current, self.spare, strict=True))
        self.current, self.spare = [], []
        return pairs

    def __del__(self) -> None:
        self._free += self.give_up()


class SlotStates:
    """See `RowStates`. `tail` (L, slots, W, C), `delayed` (L, slots, G*K/2), in the model's dtype.

    With `max_rows` the slots are allocated at once, as many as an Engine of so many rows needs, and do not move;
    without, there are more when more are needed. `generation` counts how often they have moved.
    """

    def __init__(
        self, layout: CacheLayout, empty_delayed: Tensor, max_rows: int | None = None, max_blocks: int | None = None
    ):
        """empty_delayed: (L, G*K/2), V's delayed half for no token at all. max_blocks: most blocks of K and V."""
        arrangements = head_rows(layout.num_key_value_heads, layout.head_dim, layout.kv_dtype)
        self.pool = BlockPool(layout, arrangements, max_blocks)
        self._empty_delayed = empty_delayed
        self._free: list[tuple[int, int]] = []
        self.tail, self.delayed = self._no_numbers(0)
        self.generation = 0
        if max_rows is not None:
            # Those that run, one more that comes back from host memory beside one whose prompt is computed, and that
            # one; while one leaves, copies of those that stay; and a copy of one to keep.
            self._grow_to(2 * (max_rows + 2) + 1)

    @property
    def free_pairs(self) -> int:
        """How many rows more have room where the slots are."""
        return len(self._free)

    def _no_numbers(self, slots: int) -> CCATensors:
        layout = self.pool.layout
        tail, delayed = (
            torch.zeros(shape, dtype=layout.dtype, device=layout.device) for shape in layout.state_shapes(slots)
        )
        return CCATensors(tail, delayed)

    def _grow_to(self, pairs: int) -> None:
        old, slots = self.tail.shape[1] // 2, self.tail.shape[1]
        new = self._no_numbers(2 * pairs)
        for larger, smaller in zip(new, (self.tail, self.delayed), strict=True):
            larger[:, :slots] = smaller
        self.tail, self.delayed = new
        self.generation += 1
        self._free += [(2 * pair, 2 * pair + 1) for pair in range(pairs - 1, old - 1, -1)]  # the lowest is taken first

    def _take(self, rows: int) -> Slots:
        while len(self._free) < rows:
            self._grow_to(max(_LEAST_PAIRS, self.tail.shape[1]))
        return Slots(self._free, [self._free.pop() for _ in range(rows)])

    @torch.inference_mode()
    def _write(self, slots: Sequence[int], numbers: CCATensors) -> None:
        index = self._on_device(slots)
        self.tail[:, index] = numbers.conv_tail
        self.delayed[:, index] = numbers.delayed

    def _read(self, slots: Sequence[int]) -> CCATensors:
        index = self._on_device(slots)
        return CCATensors(self.tail[:, index], self.delayed[:, index])

    def _on_device(self, slots: Sequence[int]) -> Tensor:
        return torch.tensor(slots, dtype=torch.long).to(self.tail.device)

    def _placed(self, numbers: CCATensors) -> Slots:
        """In slots that nobody has."""
        slots = self._take(numbers.delayed.shape[1])
        self._write(slots.current, numbers)
        return slots

    def empty(self, rows: int) -> Slots:
        """See `RowStates`."""
        return self._placed(empty_state(self.pool.layout, self._empty_delayed, rows))

    def join(self, states: Sequence[Slots]) -> Slots:
        """See `RowStates`. The slots are handed over, and no number is copied."""
        return Slots(self._free, [pair for state in states for pair in state.give_up()])

    def select(self, state: Slots, rows: Sequence[int]) -> Slots:
        """See `RowStates`."""
        return self._placed(self._read([state.current[row] for row in rows]))

    def tensors(self, state: Slots) -> CCATensors:
        """See `RowStates`. Copies."""
        return self._read(state.current)

    def advance(self, state: Slots, new: CCATensors | Written) -> Slots:
        """See `RowStates`."""
        if not isinstance(new, Written):
            self._write(state.spare, new)
        state.swap()
        return state

    def snapshot(self, state: Slots) -> CCATensors:
        """See `RowStates`."""
        return self._read(state.current)

    def restore(self, snapshot: CCATensors) -> Slots:
        """See `RowStates`."""
        return self._placed(snapshot)

    def park(self, snapshot: Slots | CCATensors) -> CCATensors:
        """See `RowStates`."""
        numbers = self._read(snapshot.current) if isinstance(snapshot, Slots) else snapshot
        return CCATensors(*(tensor.cpu() for tensor in numbers))

    def unpark(self, parked: CCATensors) -> Slots:
        """See `RowStates`."""
        return self._placed(CCATensors(*(tensor.to(self.tail.device) for tensor in parked)))

    def expect(self, state: Slots | CCATensors, rows: int) -> None:
        """See `RowStates`."""
        if not isinstance(state, Slots):
            expect_state(self.pool.layout, state, rows)
        elif len(state) != rows or state._free is not self._free:
            raise ValueError(f"a state of {rows} rows must be in as many slots of this owner; it is in {len(state)}")

    def nbytes(self, state: Slots | CCATensors) -> int:
        """See `RowStates`."""
        if not isinstance(state, Slots):
            return state.nbytes
        of_all = self.tail.nbytes + self.delayed.nbytes
        return of_all * 2 * len(state) // max(1, self.tail.shape[1])
