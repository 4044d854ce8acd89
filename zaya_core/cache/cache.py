"""All temporal state of a batch: keys and values in shared blocks, and CCA's convolution tail and delayed values.

Keys and values live in a pool of blocks of 256 positions. Every row has a table of block numbers, and blocks count
their owners, so that a fork or a snapshot shares what it has in common with its origin and nothing is copied until
somebody writes. Worked example, blocks of 256: a row of 600 positions owns blocks [4, 5, 6], position 600 is slot 88 of
block 6. After `fork(2)` blocks 4, 5, 6 have three owners; the first row that appends gets a copy of block 6, [4, 5, 7].

K and V can be cut at any position, the other two states only where a snapshot was taken.

K and V are in the model's dtype or, with `kv` "int8", in codes of -127..127 with one float32 scale for each position,
head, and K or V: value = code * scale, scale = largest magnitude / 127. Half the memory and half the traffic, and a
token's own pass sees what later passes see, so that chunks, steps and batches still agree.
"""

from __future__ import annotations

import heapq
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from types import TracebackType

import torch
from torch import Tensor

from quant.int8 import nearest_int8
from quant.kernels.pointers import described, strided
from quant.large_pages import zeros_in_large_pages
from zaya_core.cache.layout import BLOCK, Arrangement, Keys, Scales, Values
from zaya_core.config.kv_format import KVFormat, bytes_of_head
from zaya_core.errors import MemoryFitError
from zaya_core.whole_numbers import expect_all_whole, expect_whole


@dataclass(frozen=True)
class CacheLayout:
    """Sizes of the state of one row: L, G, K, W, C and the width of a delayed value."""

    num_layers: int
    num_key_value_heads: int
    head_dim: int
    conv_tail: int
    cca_channels: int
    dtype: torch.dtype
    device: torch.device
    kv: KVFormat = "auto"

    def state_shapes(self, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of B rows' convolution tails and delayed values."""
        tail = (self.num_layers, batch, self.conv_tail, self.cca_channels)
        return tail, (self.num_layers, batch, self.num_key_value_heads * self.head_dim // 2)


class BlockPool:
    """Storage of K and V for all rows of all caches of one model, in blocks with reference counts.

    `tensors` has by name one tensor a layer, (blocks, ...) as the one of that name in `arrangements` says, contiguous:
    `keys` and `values` in the model's dtype; with `kv` "int8" in int8 codes, with `key_scales` and `value_scales` in
    float32. New blocks are zeroed: torch's attention multiplies what lies behind a row's end by weights of zero, and
    zero times the NaN of unwritten memory is NaN. `generation` counts how often they have moved.
    """

    def __init__(self, layout: CacheLayout, max_blocks: int | None = None):
        self.layout = layout
        self.max_blocks = max_blocks
        heads, dtype = layout.num_key_value_heads, torch.int8 if layout.kv == "int8" else layout.dtype
        self.arrangements: dict[str, Arrangement] = {
            "keys": Keys(heads, layout.head_dim, dtype),
            "values": Values(heads, layout.head_dim, dtype),
        }
        if layout.kv == "int8":
            self.arrangements |= {"key_scales": Scales(heads), "value_scales": Scales(heads)}
        self.tensors = {
            name: self._no_blocks(one.block_shape, torch.float32 if name.endswith("scales") else dtype)
            for name, one in self.arrangements.items()
        }
        self.generation = 0
        self._owners: list[int] = []
        self._free: list[int] = []

    def _no_blocks(self, shape: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
        empty = torch.zeros((0, *shape), dtype=dtype, device=self.layout.device)
        return [empty] * self.layout.num_layers

    @property
    def bytes_per_block(self) -> int:
        layout = self.layout
        of_head = bytes_of_head(layout.kv, layout.head_dim, layout.dtype.itemsize)
        return 2 * layout.num_layers * BLOCK * layout.num_key_value_heads * of_head

    @property
    def blocks_in_use(self) -> int:
        return len(self._owners) - len(self._free)

    @property
    def capacity(self) -> float:
        """How many blocks there can be in all; infinite without a bound."""
        return math.inf if self.max_blocks is None else max(self.max_blocks, len(self._owners))

    @property
    def blocks_left(self) -> float:
        """How many more blocks can be allocated; infinite without a bound."""
        return self.capacity - self.blocks_in_use

    def reserve(self, blocks: int) -> None:
        """Grow until so many more can be allocated without growing. Raises MemoryFitError."""
        while len(self._free) < blocks:
            self._grow()

    def allocate(self) -> int:
        """A block with one owner; the lowest free one, so that a lone row's blocks lie side by side."""
        if not self._free:
            self._grow()
        block = heapq.heappop(self._free)
        self._owners[block] = 1
        return block

    def retain(self, blocks: Sequence[int]) -> None:
        """One more owner for each. Raises ValueError for a block that nobody has."""
        for block in blocks:
            if not (0 <= block < len(self._owners) and self._owners[block]):
                raise ValueError(f"block {block} is not in use; the pool has {len(self._owners)}")
        for block in blocks:
            self._owners[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self._owners[block] -= 1
            if self._owners[block] == 0:
                heapq.heappush(self._free, block)

    def owners(self, block: int) -> int:
        """How many tables have the block."""
        return self._owners[block]

    def is_shared(self, block: int) -> bool:
        return self._owners[block] > 1

    def clear(self, block: int) -> None:
        """Fill a block with zeros, as a new one is."""
        for layers in self.tensors.values():
            for storage in layers:
                storage[block].zero_()

    def rows_of(self, length: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shapes and dtypes of what `BlockTable.read` gives of so many positions."""
        return {
            name: ((len(layers), length, *self.arrangements[name].row_shape), layers[0].dtype)
            for name, layers in self.tensors.items()
        }

    @torch.inference_mode()
    def copy(self, source: int, target: int) -> None:
        for layers in self.tensors.values():
            for storage in layers:
                storage[target].copy_(storage[source])

    def _grow(self) -> None:
        old = len(self._owners)
        new = max(4, 2 * old) if self.max_blocks is None else min(max(4, 2 * old), self.max_blocks)
        if new <= old:
            raise MemoryFitError(
                f"The key/value cache is full: {old} blocks of {BLOCK} positions, "
                f"{old * self.bytes_per_block / 2**30:.1f} GiB. Use a shorter context or fewer rows at once."
            )
        self.generation += 1  # also of a growth that fails half way
        for layers in self.tensors.values():
            for layer, storage in enumerate(layers):  # one layer at a time: only its storage exists twice
                layers[layer] = self._enlarged(storage, new)
        self._owners += [0] * (new - old)
        self._free += range(old, new)

    @staticmethod
    def _enlarged(storage: Tensor, blocks: int) -> Tensor:
        larger = zeros_in_large_pages((blocks, *storage.shape[1:]), storage.dtype, storage.device)
        larger[: len(storage)] = storage
        return larger


class BlockTable:
    """The blocks of one row, in order. Owns a reference to each until it is garbage."""

    def __init__(self, pool: BlockPool, blocks: Sequence[int] = ()):
        self.pool = pool
        self.blocks: list[int] = []
        pool.retain(blocks)
        self.blocks += blocks

    def copy(self) -> BlockTable:
        return BlockTable(self.pool, self.blocks)

    @property
    def holds_alone(self) -> bool:
        """Whether some block would be free without this table."""
        return any(not self.pool.is_shared(block) for block in self.blocks)

    def reserve(self, start: int, stop: int) -> None:
        """Make positions start..stop-1 writable: append blocks, copy a shared one that they begin in the middle of."""
        first = start // BLOCK
        if start < stop and first < len(self.blocks) and self.pool.is_shared(self.blocks[first]):
            own = self.pool.allocate()
            try:
                self.pool.copy(self.blocks[first], own)
            except BaseException:
                self.pool.release([own])
                raise
            self.pool.release([self.blocks[first]])
            self.blocks[first] = own
        while len(self.blocks) * BLOCK < stop:
            self.blocks.append(self.pool.allocate())

    def missing(self, start: int, stop: int) -> int:
        """How many blocks `reserve` would allocate."""
        first = start // BLOCK
        copies = start < stop and first < len(self.blocks) and self.pool.is_shared(self.blocks[first])
        return copies + max(0, -(-stop // BLOCK) - len(self.blocks))

    def truncate(self, length: int) -> None:
        """Give back the blocks that only positions from `length` on use."""
        keep = -(-length // BLOCK)
        self.pool.release(self.blocks[keep:])
        del self.blocks[keep:]

    def clear(self) -> None:
        """Fill the blocks that no other table has with zeros: what is no number must not reach their next owner."""
        for block in self.blocks:
            if not self.pool.is_shared(block):
                self.pool.clear(block)

    def slots(self, start: int, stop: int) -> list[int]:
        """Flat storage index of positions start..stop-1."""
        return [self.blocks[p // BLOCK] * BLOCK + p % BLOCK for p in range(start, stop)]

    def read(self, length: int) -> dict[str, Tensor]:
        """A copy of the first `length` positions, by the names of the pool's tensors: (L, length, G, ...) each.

        Raises ValueError where the blocks hold fewer.
        """
        expect_whole("the number of positions", length, 0, len(self.blocks) * BLOCK)
        index = torch.tensor(self.blocks, dtype=torch.long, device=self.pool.layout.device)
        arrangements = self.pool.arrangements
        return {
            name: torch.stack([arrangements[name].rows(storage[index]).flatten(0, 1)[:length] for storage in layers])
            for name, layers in self.pool.tensors.items()
        }

    @classmethod
    @torch.inference_mode()
    def written(cls, pool: BlockPool, tensors: Mapping[str, Tensor]) -> BlockTable:
        """A new table that holds what `read` gave. Raises MemoryFitError; ValueError for what does not fit the pool."""
        keys = tensors.get("keys")
        length = keys.shape[1] if isinstance(keys, Tensor) and keys.dim() > 1 else 0
        for name, (shape, dtype) in pool.rows_of(length).items():
            one = strided(tensors.get(name), name)
            if one.shape != shape or one.dtype != dtype or one.is_meta:
                raise ValueError(f"{name} of {length} positions must be {shape} {dtype}; they are {described(one)}")
        table = cls(pool)
        table.reserve(0, length)
        slots = torch.tensor(table.slots(0, length), dtype=torch.long, device=pool.layout.device)
        for name, layers in pool.tensors.items():
            for storage, rows in zip(layers, tensors[name], strict=True):
                pool.arrangements[name].write(storage, slots, rows.to(storage.device))
        return table

    def __del__(self) -> None:
        self.pool.release(self.blocks)


@dataclass(frozen=True)
class Snapshot:
    """The state of all rows at one moment. Valid whatever is written later; may be restored any number of times."""

    tables: tuple[BlockTable, ...]
    row_lengths: tuple[int, ...]
    conv_tail: Tensor
    delayed: Tensor


class Cache:
    """State of B rows.

    Attributes: `row_lengths`, positions stored in each row; `conv_tail` (L, B, W, C), the last raw query and key
    columns before both convolutions; `delayed` (L, B, G*K/2), the half of V that the next token takes from this one.
    Both in the model's dtype, which is what the projections return; a pass replaces them and never writes into them, so
    that snapshots need no copy.
    """

    def __init__(
        self,
        pool: BlockPool,
        tables: Sequence[BlockTable],
        row_lengths: Sequence[int],
        conv_tail: Tensor,
        delayed: Tensor,
    ):
        """Raises ValueError for parts that do not belong together."""
        _expect_state(pool, tables, row_lengths, conv_tail, delayed)
        self.pool = pool
        self.tables = list(tables)
        self.row_lengths = list(row_lengths)
        self.conv_tail = conv_tail
        self.delayed = delayed

    @classmethod
    def empty(cls, pool: BlockPool, empty_delayed: Tensor, batch_size: int) -> Cache:
        """Rows that have seen nothing. empty_delayed: (L, G*K/2), V's delayed half for no token at all.

        The only place that knows the empty CCA state: zero columns on the left, once, before the first convolution.
        """
        layout, batch_size = pool.layout, expect_whole("the number of rows", batch_size, 1)
        conv_tail = torch.zeros(layout.state_shapes(batch_size)[0], dtype=layout.dtype, device=layout.device)
        delayed = empty_delayed[:, None].repeat(1, batch_size, 1)
        return cls(pool, [BlockTable(pool) for _ in range(batch_size)], [0] * batch_size, conv_tail, delayed)

    @classmethod
    def join(cls, caches: Sequence[Cache]) -> Cache:
        """One cache with the rows of several, which are used up by it. Raises ValueError unless they share a pool."""
        if not caches or any(cache.pool is not caches[0].pool for cache in caches):
            raise ValueError(f"caches of one model can be joined, and at least one; these are {len(caches)}")
        tables = [table for cache in caches for table in cache.tables]
        lengths = [length for cache in caches for length in cache.row_lengths]
        conv_tail = torch.cat([cache.conv_tail for cache in caches], dim=1)
        delayed = torch.cat([cache.delayed for cache in caches], dim=1)
        return cls(caches[0].pool, tables, lengths, conv_tail, delayed)

    @property
    def batch_size(self) -> int:
        return len(self.tables)

    @property
    def lengths(self) -> Tensor:
        """(B) int64: positions stored in each row."""
        return torch.tensor(self.row_lengths)

    @property
    def nbytes(self) -> int:
        """Bytes held by these rows; blocks that rows share count once."""
        blocks = {block for table in self.tables for block in table.blocks}
        return len(blocks) * self.pool.bytes_per_block + self.conv_tail.nbytes + self.delayed.nbytes

    def blocks_for(self, columns: int) -> int:
        """Blocks that a pass of `columns` tokens a row allocates at most."""
        rows = zip(self.tables, self.row_lengths, strict=True)
        return sum(table.missing(length, length + columns) for table, length in rows)

    def snapshot(self) -> Snapshot:
        tables = tuple(table.copy() for table in self.tables)
        return Snapshot(tables, tuple(self.row_lengths), self.conv_tail, self.delayed)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back (or forward) to a snapshot of this cache or of one with as many rows.

        Raises ValueError for another number of rows, or a snapshot of another model's cache.
        """
        if len(snapshot.tables) != self.batch_size:
            raise ValueError(f"a snapshot of {len(snapshot.tables)} rows does not fit a cache of {self.batch_size}")
        _expect_state(self.pool, snapshot.tables, snapshot.row_lengths, snapshot.conv_tail, snapshot.delayed)
        self.tables = [table.copy() for table in snapshot.tables]
        self.row_lengths = list(snapshot.row_lengths)
        self.conv_tail = snapshot.conv_tail
        self.delayed = snapshot.delayed

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot) -> Cache:
        """A new cache in the state of the snapshot. Raises ValueError for one of no rows."""
        if not snapshot.tables:
            raise ValueError("a snapshot of no rows makes no cache")
        tables = [table.copy() for table in snapshot.tables]
        pool = tables[0].pool
        return cls(pool, tables, snapshot.row_lengths, snapshot.conv_tail, snapshot.delayed)

    def select(self, rows: Sequence[int]) -> Cache:
        """A new cache with copies of these rows, in this order; a row may be taken several times.

        Raises ValueError for none, or one that is not from 0 to B - 1.
        """
        rows = expect_all_whole("the rows", rows, 0, self.batch_size - 1)
        tables = [self.tables[row].copy() for row in rows]
        index = torch.tensor(rows, dtype=torch.long, device=self.conv_tail.device)
        lengths = [self.row_lengths[row] for row in rows]
        return Cache(self.pool, tables, lengths, self.conv_tail[:, index], self.delayed[:, index])

    def repeat_to(self, length: int) -> None:
        """Fill every row up to `length` positions with copies of its full blocks: a depth to measure at, without sense.

        Rows that are as long already stay. Raises ValueError for a shorter row without a full block, MemoryFitError;
        the rows are then unchanged.
        """
        expect_whole("the length", length, 0)
        short = [row for row, stored in enumerate(self.row_lengths) if stored < length]
        for stored in (self.row_lengths[row] for row in short):
            if stored < BLOCK:
                raise ValueError(f"a row of {stored} positions has no full block of {BLOCK} to copy")
        starts = {row: self.row_lengths[row] // BLOCK for row in short}
        self.pool.reserve(sum(self.tables[row].missing(full * BLOCK, length) for row, full in starts.items()))
        for row, full in starts.items():
            table = self.tables[row]
            table.reserve(full * BLOCK, length)
            for number in range(full, len(table.blocks)):
                self.pool.copy(table.blocks[number % full], table.blocks[number])
            self.row_lengths[row] = length

    def fork(self, n: int) -> Cache:
        """A new cache with n copies of the only row, which share all of its blocks. Raises ValueError."""
        expect_whole("the number of copies", n, 1)
        if self.batch_size != 1:
            raise ValueError(f"fork copies the only row; this cache has {self.batch_size}")
        return self.select([0] * n)

    def begin(self, columns: int, new_lengths: Sequence[int] | Tensor | None = None) -> CacheStep:
        """Start one forward pass of `columns` tokens a row, of which the first `new_lengths[row]` are real.

        Raises ValueError unless there is a length from 0 to `columns` for each row, and a token in all.
        """
        expect_whole("the number of columns", columns, 1)
        if new_lengths is None:
            return CacheStep(self, columns, [columns] * self.batch_size)
        lengths = expect_all_whole("lengths", new_lengths, 0, columns)
        if len(lengths) != self.batch_size or not any(lengths):
            raise ValueError(
                f"lengths must be {self.batch_size}, one of them above 0; they are {reprlib.repr(lengths)}"
            )
        return CacheStep(self, columns, lengths)


def _expect_state(
    pool: BlockPool, tables: Sequence[BlockTable], row_lengths: Sequence[int], conv_tail: Tensor, delayed: Tensor
) -> None:
    """Raises ValueError unless these are the state of some rows of the pool, each with blocks for what it holds."""
    layout, rows = pool.layout, len(tables)
    if any(table.pool is not pool for table in tables):
        raise ValueError("the rows' keys and values are in the pool of another model")
    if not rows or len({*map(id, tables)}) != rows or len(row_lengths) != rows:
        raise ValueError(f"a cache needs a table of its own and a length for each row; {rows}, {len(row_lengths)}")
    for table, length in zip(tables, row_lengths, strict=True):
        expect_whole("a row's length", length, 0, len(table.blocks) * BLOCK)
    for state, shape in zip((conv_tail, delayed), layout.state_shapes(rows), strict=True):
        if state.shape != shape or state.dtype != layout.dtype or state.device.type != layout.device.type:
            found = f"{tuple(state.shape)} {state.dtype} on {state.device}"
            raise ValueError(f"a state of {rows} rows must be {shape} {layout.dtype} on {layout.device}; it is {found}")


class CacheStep:
    """One forward pass over a cache: where its tokens stand, what each layer sees, what each layer leaves behind.

    `new_lengths`, `totals`: each row's new positions and all of them; `slot_numbers`: where the new ones are stored, as
    block * BLOCK + offset, row by row; `block_numbers`: each row's, filled up with its first to as many. As int64
    tensors `lengths`, `ends` (B), `slots`, `tables` (B, blocks), `positions` (B, T), which are made when somebody asks:
    a step of one token by the native library needs none.

    A context manager. Lengths and states change at its end only; if the pass is cut short, the cache is as before.
    """

    def __init__(self, cache: Cache, columns: int, new_lengths: list[int]):
        self.cache = cache
        self.columns = columns
        self.new_lengths = new_lengths
        self.past = list(cache.row_lengths)
        self.totals = [past + new for past, new in zip(self.past, new_lengths, strict=True)]
        self.num_keys = max(self.totals)  # S
        self.device = cache.conv_tail.device
        self.is_padded = any(new != columns for new in new_lengths)
        self._tails: list[Tensor] = []
        self._delayed: list[Tensor] = []
        self._states: tuple[Tensor, Tensor] | None = None

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
        self.cache.row_lengths = self.totals
        self.cache.conv_tail, self.cache.delayed = self._states or (
            torch.stack(self._tails),
            torch.stack(self._delayed),
        )

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

    @cached_property
    def lengths(self) -> Tensor:
        return self._numbers(self.new_lengths)

    @cached_property
    def ends(self) -> Tensor:
        return self._numbers(self.totals)

    @cached_property
    def slots(self) -> Tensor:
        return self._numbers(self.slot_numbers)

    @cached_property
    def tables(self) -> Tensor:
        return self._numbers(self.block_numbers)

    @cached_property
    def positions(self) -> Tensor:
        first = self._numbers([[past] for past in self.past])
        return first if self.columns == 1 else first + torch.arange(self.columns, device=self.device)

    def _numbers(self, values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)

    @cached_property
    def _real(self) -> Tensor:
        """Which of the B * T new columns are real."""
        real = torch.arange(self.columns, device=self.device)[None] < self.lengths[:, None]
        return real.flatten().nonzero()[:, 0]

    @cached_property
    def _last(self) -> Tensor:
        """(B, W): where the columns before the next token stand in [tail, new columns]."""
        return self.lengths[:, None] + torch.arange(self.cache.conv_tail.shape[2], device=self.device)

    @cached_property
    def _side_by_side(self) -> slice | None:
        """The blocks of an only row, where they are consecutive."""
        blocks = self.block_numbers[0]
        is_one = len(self.block_numbers) == 1 and all(b == a + 1 for a, b in pairwise(blocks))
        return slice(blocks[0], blocks[0] + len(blocks)) if is_one and blocks else None

    def conv_tail(self, layer: int) -> Tensor:
        """(B, W, C): the raw query and key columns before this pass's first token."""
        return self.cache.conv_tail[layer]

    def delayed(self, layer: int) -> Tensor:
        """(B, G*K/2): V's delayed half for this pass's first token."""
        return self.cache.delayed[layer]

    def keep_state(self, columns: Tensor, delayed: Tensor) -> None:
        """Note the next layer's new state, taken at each row's last real token.

        columns: (B, W + T, C), the old tail followed by the new columns; delayed: (B, 1 + T, G*K/2), likewise.
        Example, W = 2, T = 4, a row with 3 real tokens: its new tail is columns 3 and 4, those of tokens 1 and 2.
        """
        if self.is_padded:
            rows = torch.arange(columns.shape[0], device=self.device)[:, None]
            self.replace_state(columns[rows, self._last], delayed[rows[:, 0], self.lengths])
        else:
            self.replace_state(columns[:, self.columns :], delayed[:, -1])

    def replace_state(self, conv_tail: Tensor, delayed: Tensor) -> None:
        """Note the next layer's new state itself: (B, W, C) and (B, G*K/2)."""
        self._tails.append(conv_tail)
        self._delayed.append(delayed)

    def replace_states(self, conv_tail: Tensor, delayed: Tensor) -> None:
        """Note the new state of all layers at once: (L, B, W, C) and (L, B, G*K/2)."""
        self._states = conv_tail, delayed

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store the new keys and values and return all of them. key, value: (B, T, G, K) -> (B, S, G, K) each."""
        self.store(layer, key, value)
        return self.gather(layer)

    def store(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Write the new keys and values into their slots. key, value: (B, T, G, K), rounded only as the cache is."""
        if self.cache.pool.layout.kv == "int8":
            (key, key_scales), (value, value_scales) = nearest_int8(key), nearest_int8(value)
            self._write("key_scales", layer, key_scales)
            self._write("value_scales", layer, value_scales)
        self._write("keys", layer, key)
        self._write("values", layer, value)

    def gather(self, layer: int) -> tuple[Tensor, Tensor]:
        """All keys and values of the rows: (B, S, G, K) each, in the model's dtype. See `BlockPool` for the blocks."""
        dtype = self.cache.pool.layout.dtype
        keys, values = self._read("keys", layer), self._read("values", layer)
        if self.cache.pool.layout.kv == "int8":
            keys = (keys * self._read("key_scales", layer)[..., None]).to(dtype)
            values = (values * self._read("value_scales", layer)[..., None]).to(dtype)
        return keys, values

    def _write(self, name: str, layer: int, new: Tensor) -> None:
        """new: (B, T, G, ...)."""
        storage = self.cache.pool.tensors[name][layer]
        rows = new.to(storage.dtype).reshape(-1, *new.shape[2:])
        arrangement = self.cache.pool.arrangements[name]
        arrangement.write(storage, self.slots, rows[self._real] if self.is_padded else rows)

    def _read(self, name: str, layer: int) -> Tensor:
        """(B, S, G, ...), a copy."""
        storage, side_by_side = self.cache.pool.tensors[name][layer], self._side_by_side
        blocks = storage[self.tables] if side_by_side is None else storage[None, side_by_side]
        return self.cache.pool.arrangements[name].rows(blocks).flatten(1, 2)[:, : self.num_keys]
