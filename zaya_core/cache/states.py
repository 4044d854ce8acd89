"""Who owns the state of rows between two passes: the seam behind which each device keeps it as it computes with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from zaya_core.cache.arrangement import packed_words, plain_rows
from zaya_core.cache.blocks import BlockPool
from zaya_core.cache.layout import CacheLayout


class CCATensors(NamedTuple):
    """CCA's state of B rows, in the model's dtype.

    `conv_tail` (L, B, W, C): the last raw query and key columns before both convolutions; `delayed` (L, B, G*K/2): the
    half of V that the next token takes from this one.
    """

    conv_tail: Tensor
    delayed: Tensor

    @property
    def nbytes(self) -> int:
        return self.conv_tail.nbytes + self.delayed.nbytes


class Written:
    """Instead of numbers: a pass has written them itself, where the rows' owner said that the new state belongs."""


WRITTEN = Written()


class RowStates(Protocol):
    """Owner of all state of an Engine's rows, or of other caches, on one device: K and V in `pool`, CCA's as it likes.

    What stands for CCA's state of some rows is opaque to Engine and cache (here called a state): tensors, or numbers of
    slots at fixed addresses. A state belongs to one cache, which gives it up by `join`. What it holds is free again
    when nobody has it, as the blocks of a `BlockTable` are; nobody says so.
    """

    pool: BlockPool

    def empty(self, rows: int) -> Any:
        """Of rows that have seen nothing."""

    def join(self, states: Sequence[Any]) -> Any:
        """Of the rows of several states, one behind the other."""

    def select(self, state: Any, rows: Sequence[int]) -> Any:
        """Of copies of these rows, in this order, perhaps one several times (a fork); `state` itself goes on."""

    def tensors(self, state: Any) -> CCATensors:
        """The state's numbers on the device, for steps that do not know better."""

    def advance(self, state: Any, new: CCATensors | Written) -> Any:
        """The state of the same rows behind a pass that made these numbers."""

    def snapshot(self, state: Any) -> Any:
        """What `restore` takes; valid whatever passes write later."""

    def restore(self, snapshot: Any) -> Any:
        """The state of a snapshot, for further passes; as often as one likes."""

    def park(self, snapshot: Any) -> CCATensors:
        """A state or snapshot in host memory."""

    def unpark(self, parked: CCATensors) -> Any:
        """The state back on the device, bit for bit."""

    def expect(self, state: Any, rows: int) -> None:
        """Raises ValueError unless it is a state, or a snapshot, of so many rows of this model."""

    def nbytes(self, state: Any) -> int:
        """Bytes that it holds."""


class TensorStates:
    """States as tensors. A snapshot owns its own: a device may update those of running rows in place."""

    def __init__(self, layout: CacheLayout, empty_delayed: Tensor, max_blocks: int | None = None):
        """empty_delayed: (L, G*K/2), V's delayed half for no token at all. max_blocks: most blocks of K and V."""
        arranged = packed_words if layout.device.type == "cpu" else plain_rows
        arrangements = arranged(layout.num_key_value_heads, layout.head_dim, layout.kv_dtype)
        self.pool = BlockPool(layout, arrangements, max_blocks)
        self._empty_delayed = empty_delayed

    def empty(self, rows: int) -> CCATensors:
        """See `RowStates`."""
        return empty_state(self.pool.layout, self._empty_delayed, rows)

    def join(self, states: Sequence[CCATensors]) -> CCATensors:
        """See `RowStates`."""
        return CCATensors(*(torch.cat(of_all, dim=1) for of_all in zip(*states, strict=True)))

    def select(self, state: CCATensors, rows: Sequence[int]) -> CCATensors:
        """See `RowStates`."""
        index = torch.tensor(rows, dtype=torch.long, device=state.conv_tail.device)
        return CCATensors(*(tensor[:, index] for tensor in state))

    def tensors(self, state: CCATensors) -> CCATensors:
        """See `RowStates`."""
        return state

    def advance(self, state: CCATensors, new: CCATensors | Written) -> CCATensors:
        """See `RowStates`."""
        if isinstance(new, Written):
            raise ValueError("a state of tensors says nowhere where a pass might write the next one")
        return new

    def snapshot(self, state: CCATensors) -> CCATensors:
        """See `RowStates`."""
        return CCATensors(*(tensor.clone() for tensor in state))

    def restore(self, snapshot: CCATensors) -> CCATensors:
        """See `RowStates`."""
        return CCATensors(*(tensor.clone() for tensor in snapshot))

    def park(self, snapshot: CCATensors) -> CCATensors:
        """See `RowStates`."""
        return CCATensors(*(tensor.cpu() for tensor in snapshot))

    def unpark(self, parked: CCATensors) -> CCATensors:
        """See `RowStates`."""
        return CCATensors(*(tensor.to(self.pool.layout.device) for tensor in parked))

    def expect(self, state: CCATensors, rows: int) -> None:
        """See `RowStates`."""
        expect_state(self.pool.layout, state, rows)

    def nbytes(self, state: CCATensors) -> int:
        """See `RowStates`."""
        return state.nbytes


def empty_state(layout: CacheLayout, empty_delayed: Tensor, rows: int) -> CCATensors:
    """Of rows that have seen nothing. empty_delayed: (L, G*K/2), V's delayed half for no token at all.

    The only place that knows the empty state: zero columns on the left, once, before the first convolution.
    """
    conv_tail = torch.zeros(layout.state_shapes(rows)[0], dtype=layout.dtype, device=layout.device)
    return CCATensors(conv_tail, empty_delayed[:, None].repeat(1, rows, 1))


def expect_state(layout: CacheLayout, state: CCATensors, rows: int) -> None:
    """Raises ValueError unless these are the tensors of so many rows."""
    for tensor, shape in zip(state, layout.state_shapes(rows), strict=True):
        if tensor.shape != shape or tensor.dtype != layout.dtype or tensor.device.type != layout.device.type:
            found = f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"
            wanted = f"{shape} {layout.dtype} on {layout.device}"
            raise ValueError(f"a state of {rows} rows must be {wanted}; it is {found}")
