"""One forward pass over a cache."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from functools import cached_property
from itertools import chain, pairwise
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from quant.int8 import nearest_int8
from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.cache import Cache
from zaya_core.cache.states import WRITTEN, CCATensors, Written
from zaya_core.whole_numbers import expect_all_whole, expect_whole

GATHERED = 1 << 16  # most positions of several rows whose keys and values are gathered together on a card


class CacheStep:
    """One forward pass over a cache: where its tokens stand, what each layer sees, what each layer leaves behind.

    `new_lengths`, `totals`: each row's new positions and all of them; `slot_numbers`: where the new ones are stored, as
    block * BLOCK + offset, row by row; `block_numbers`: each row's, filled up with its first to as many. As int64
    tensors `lengths`, `ends` (B), `tables` (B, blocks), `positions` (B, T), which are made when somebody asks: a step
    of one token by the native library needs none.

    A context manager. Lengths and states change at its end only; if the pass is cut short, the cache is as before.
    """

    def __init__(self, cache: Cache, columns: int, new_lengths: list[int]):
        self.cache = cache
        self.columns = columns
        self.new_lengths = new_lengths
        self.past = list(cache.row_lengths)
        self.totals = [past + new for past, new in zip(self.past, new_lengths, strict=True)]
        self.num_keys = max(self.totals)  # S
        self.device = cache.pool.layout.device
        self.is_padded = any(new != columns for new in new_lengths)
        self._tails: list[Tensor] = []
        self._delayed: list[Tensor] = []
        self._states: CCATensors | Written | None = None

    @classmethod
    def begin(cls, cache: Cache, columns: int, new_lengths: Sequence[int] | Tensor | None = None) -> CacheStep:
        """Start one forward pass of `columns` tokens a row, of which the first `new_lengths[row]` are real.

        Raises ValueError unless there is a length from 0 to `columns` for each row, and a token in all.
        """
        expect_whole("the number of columns", columns, 1)
        if new_lengths is None:
            return cls(cache, columns, [columns] * cache.batch_size)
        lengths = expect_all_whole("lengths", new_lengths, 0, columns)
        if len(lengths) != cache.batch_size or not any(lengths):
            raise ValueError(
                f"lengths must be {cache.batch_size}, one of them above 0; they are {reprlib.repr(lengths)}"
            )
        return cls(cache, columns, lengths)

    def __enter__(self) -> CacheStep:
        cache = self.cache
        try:
            for table, past, total in zip(cache.tables, self.past, self.totals, strict=True):
                table.reserve(past, total)
        except BaseException:
            self._give_back()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._give_back()
            return
        try:
            cca = self._advanced()
        except BaseException:
            self._give_back()
            raise
        self.cache.row_lengths, self.cache.cca = self.totals, cca

    def _advanced(self) -> Any:
        """The rows' state behind this pass."""
        if self._states is None and len(self._tails) != self.cache.pool.layout.num_layers:
            raise RuntimeError(f"a pass noted the state of {len(self._tails)} layers")
        new = self._states or CCATensors(torch.stack(self._tails), torch.stack(self._delayed))
        return self.cache.states.advance(self.cache.cca, new)

    def _give_back(self) -> None:
        for table, past in zip(self.cache.tables, self.past, strict=True):
            table.truncate(past)

    @cached_property
    def slot_numbers(self) -> list[int]:
        rows = zip(self.cache.tables, self.past, self.totals, strict=True)
        return [slot for table, past, total in rows for slot in table.slots(past, total)]

    @cached_property
    def block_numbers(self) -> list[list[int]]:
        count = -(-self.num_keys // BLOCK)
        # Never with another row's: it may hold what is no number, and zero times that is none either.
        return [(table.blocks + (table.blocks[:1] or [0]) * count)[:count] for table in self.cache.tables]

    @property
    def lengths(self) -> Tensor:
        return self._on_device["lengths"]

    @property
    def ends(self) -> Tensor:
        return self._on_device["ends"]

    @property
    def tables(self) -> Tensor:
        return self._on_device["tables"].view(self.cache.batch_size, -1)

    @cached_property
    def positions(self) -> Tensor:
        first = self._on_device["past"][:, None]
        return first if self.columns == 1 else first + torch.arange(self.columns, device=self.device)

    @property
    def last_columns(self) -> Tensor:
        """(B): which of the B * T new columns is each row's last real one."""
        return self._on_device["last_columns"]

    @cached_property
    def _on_device(self) -> dict[str, Tensor]:
        """All these numbers, int64 (n) each, in one copy to the device. `real`: which of the B * T new columns are."""
        firsts = [row * self.columns for row in range(self.cache.batch_size)]
        numbers = {
            "lengths": self.new_lengths,
            "ends": self.totals,
            "past": self.past,
            "last_columns": [first + new - 1 for first, new in zip(firsts, self.new_lengths, strict=True)],
            "blocks": [slot // BLOCK for slot in self.slot_numbers],
            "offsets": [slot % BLOCK for slot in self.slot_numbers],
            "tables": list(chain.from_iterable(self.block_numbers)),
            "real": [
                first + column for first, new in zip(firsts, self.new_lengths, strict=True) for column in range(new)
            ]
            if self.is_padded
            else [],
        }
        together = torch.tensor(list(chain.from_iterable(numbers.values())), dtype=torch.long).to(self.device)
        return dict(zip(numbers, together.split([len(one) for one in numbers.values()]), strict=True))

    @cached_property
    def _last(self) -> Tensor:
        """(B, W): where the columns before the next token stand in [tail, new columns]."""
        return self.lengths[:, None] + torch.arange(self.cache.pool.layout.conv_tail, device=self.device)

    @cached_property
    def parts(self) -> list[slice]:
        """The rows in parts whose keys are gathered together; on a card, whose memory is planned, in small ones."""
        if self.device.type == "cpu":
            return [slice(0, self.cache.batch_size)]
        parts, start, longest = [], 0, self.totals[0]
        for row, total in enumerate(self.totals):
            longest = max(longest, total)
            if row > start and (row + 1 - start) * longest > GATHERED:
                parts.append(slice(start, row))
                start, longest = row, total
        return [*parts, slice(start, self.cache.batch_size)]

    @cached_property
    def _side_by_side(self) -> slice | None:
        """The blocks of an only row, where they are consecutive."""
        blocks = self.block_numbers[0]
        is_one = len(self.block_numbers) == 1 and all(b == a + 1 for a, b in pairwise(blocks))
        return slice(blocks[0], blocks[0] + len(blocks)) if is_one and blocks else None

    @cached_property
    def state(self) -> CCATensors:
        """Of all layers, before this pass."""
        return self.cache.states.tensors(self.cache.cca)

    def conv_tail(self, layer: int) -> Tensor:
        """(B, W, C): the raw query and key columns before this pass's first token."""
        return self.state.conv_tail[layer]

    def delayed(self, layer: int) -> Tensor:
        """(B, G*K/2): V's delayed half for this pass's first token."""
        return self.state.delayed[layer]

    def keep_state(self, columns: Tensor, delayed: Tensor) -> None:
        """Note the next layer's new state, taken at each row's last real token.

        columns: (B, W + T, C), the old tail followed by the new columns; delayed: (B, 1 + T, G*K/2), likewise.
        Example, W = 2, T = 4, a row with 3 real tokens: its new tail is columns 3 and 4, those of tokens 1 and 2.
        """
        if self.is_padded:
            rows = torch.arange(columns.shape[0], device=self.device)[:, None]
            self.replace_state(columns[rows, self._last], delayed[rows[:, 0], self.lengths])
        elif self.columns == 1:
            self.replace_state(columns[:, 1:], delayed[:, -1])
        else:  # copies: a view would keep the columns of a whole chunk, of each layer, until the pass ends
            self.replace_state(columns[:, self.columns :].clone(), delayed[:, -1].clone())

    def replace_state(self, conv_tail: Tensor, delayed: Tensor) -> None:
        """Note the next layer's new state itself: (B, W, C) and (B, G*K/2)."""
        self._tails.append(conv_tail)
        self._delayed.append(delayed)

    def replace_states(self, conv_tail: Tensor, delayed: Tensor) -> None:
        """Note the new state of all layers at once: (L, B, W, C) and (L, B, G*K/2)."""
        self._states = CCATensors(conv_tail, delayed)

    def states_are_written(self) -> None:
        """Note that the new state of all layers lies where the rows' owner wants it (`SlotStates`)."""
        self._states = WRITTEN

    def store(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Write the new keys and values into their slots. key, value: (B, T, G, K), rounded only as the cache is."""
        if self.cache.pool.layout.kv == "int8":
            (key, key_scales), (value, value_scales) = nearest_int8(key), nearest_int8(value)
            self._write("key_scales", layer, key_scales)
            self._write("value_scales", layer, value_scales)
        self._write("keys", layer, key)
        self._write("values", layer, value)

    def gather(self, layer: int, rows: slice) -> tuple[Tensor, Tensor]:
        """All keys and values of some rows, in the model's dtype: (b, S, G, K) each, S that of the longest of them.

        See `BlockPool` for the blocks.
        """
        dtype = self.cache.pool.layout.dtype
        keys, values = self._read("keys", layer, rows), self._read("values", layer, rows)
        if self.cache.pool.layout.kv == "int8":
            keys = (keys * self._read("key_scales", layer, rows)[..., None]).to(dtype)
            values = (values * self._read("value_scales", layer, rows)[..., None]).to(dtype)
        return keys, values

    def _write(self, name: str, layer: int, new: Tensor) -> None:
        """new: (B, T, G, ...)."""
        storage = self.cache.pool.tensors[name][layer]
        rows = new.to(storage.dtype).reshape(-1, *new.shape[2:])
        arrangement = self.cache.pool.arrangements[name]
        rows = rows[self._on_device["real"]] if self.is_padded else rows
        arrangement.write(storage, self._on_device["blocks"], self._on_device["offsets"], rows)

    def _read(self, name: str, layer: int, rows: slice) -> Tensor:
        """(b, S, G, ...), a copy or a view."""
        storage, side_by_side = self.cache.pool.tensors[name][layer], self._side_by_side
        longest = max(self.totals[rows])
        tables = self.tables[rows, : -(-longest // BLOCK)]
        blocks = storage[tables] if side_by_side is None else storage[None, side_by_side]
        return self.cache.pool.arrangements[name].rows(blocks).flatten(1, 2)[:, :longest]
