"""One new token a row through the model in one call of the native library (`abi.h`)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from quant.kernels.pointers import address, expect_within, fresh, rows_of, strided
from zaya_core.kernels import abi
from zaya_core.kernels.key_values import DTYPES, storage_addresses
from zaya_core.kernels.layer import NativeLayer, state_addresses
from zaya_core.kernels.vocabulary import NativeEmbedding, NativeHead

_INT32, _INT64, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p


class AttentionKind(NamedTuple):
    """What layers of one kind share: cos, sin (1, positions, 1, rotated) and the first position that each row sees."""

    cos: Tensor
    sin: Tensor
    begin: Sequence[int]


class Places(NamedTuple):
    """Where rows are in the cache, of each: the new position's slot, its blocks (as many of each row), its end."""

    slots: Sequence[int]
    tables: Sequence[Sequence[int]]
    ends: Sequence[int]


class StoragePointers:
    """All layers' keys, then values, in float32, bf16 or int8; with int8 the scales of both. See `paged_cache.h`.

    Made once for a cache, not in every step: to ask so many tensors where they are takes long.
    """

    def __init__(self, storage: Sequence[Sequence[Tensor]], key_heads: int, head_dim: int, block_size: int):
        by_layer = [storage_addresses(one, key_heads, head_dim, block_size) for one in zip(*storage, strict=True)]
        keys = storage[0]
        if len({one.dtype for one in keys}) > 1:
            raise ValueError("the layers' keys and values must be of one dtype")
        self.addresses = (_POINTER * (len(storage) * len(keys)))(*chain.from_iterable(zip(*by_layer, strict=True)))
        self.format, self.blocks, self.block_size = DTYPES.index(keys[0].dtype), len(keys[0]), block_size
        self.sizes = len(keys), key_heads, head_dim


class NativeDecoder:
    """The model's layers, `kinds[layer]` being each one's number among the kinds of attention, between its two ends.

    Between two steps the weights pass through the caches, so that whatever a step touches comes from memory: it makes
    few tensors, and numbers that the library reads alone are no tensors.
    """

    def __init__(
        self, embedding: NativeEmbedding, layers: Sequence[NativeLayer], kinds: Sequence[int], head: NativeHead
    ):
        self._embedding, self._layers, self._head = embedding, list(layers), head  # what the pointers point to
        first = layers[0]
        self._library, self._index = first.library, first.index
        self._expect_one_model(kinds)
        self._pointers = (_POINTER * len(layers))(*(layer.address for layer in layers))
        self._kinds = (_INT32 * len(layers))(*kinds)
        arrays = ctypes.addressof(self._pointers), ctypes.addressof(self._kinds)
        self._model = (embedding.address, *arrays, head.address)

    def _expect_one_model(self, kinds: Sequence[int]) -> None:
        """Raises ValueError where the parts differ in sizes, or a layer has no kind."""
        widths = {(layer.hidden, layer.router_width, *layer.state_shapes(layer.query_width)) for layer in self._layers}
        if len(widths) > 1 or {self._embedding.hidden, self._head.hidden} != {self._layers[0].hidden}:
            raise ValueError("the layers, the embedding and the head of a model must have the same widths")
        if len(kinds) != len(self._layers):
            raise ValueError(f"{len(kinds)} kinds of attention were given for {len(self._layers)} layers")
        expect_within("kinds of attention", kinds, 0, len(kinds) - 1)
        self._kind_count = max(kinds) + 1

    def storage(self, tensors: Sequence[Sequence[Tensor]], block_size: int) -> StoragePointers:
        """The cache's tensors by name, and of each the layers'. Raises ValueError where they are not this model's."""
        return StoragePointers(tensors, self._layers[0].key_heads, self._layers[0].head_dim, block_size)

    def __call__(
        self, ids: Tensor, states: tuple[Tensor, Tensor], kinds: Sequence[AttentionKind], storage: StoragePointers,
        places: Places,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Writes the new keys and values into the cache.

        ids: (B, 1) int64; states: tails (L, B, W, C) and delayed (L, B, G*K/2) in the cache's dtype; storage: of the
        cache -> logits (B, 1, V) float32, the new tails and delayed, and the choices (L, B) as of `NativeLayer.mix`.
        Raises IndexError for an id that is no row of the embedding; ValueError for what does not fit the model.
        """
        layers, batch = len(self._layers), len(strided(ids, "ids"))
        self._expect_places(batch, kinds, storage, places)
        ids, tails, delayed = rows_of(ids, "ids"), rows_of(states[0], "tails"), rows_of(states[1], "delayed")
        shapes = [(layers, *shape) for shape in self._layers[0].state_shapes(batch)]
        (new_tails, to_tails), (new_delayed, to_delayed) = (fresh(*shape, dtype=tails.dtype) for shape in shapes)
        choices, to_choices = fresh(layers, batch, dtype=torch.int64)
        logits, to_logits = fresh(batch, 1, self._head.vocabulary)
        slots, tables, ends = map(_array, (places.slots, chain.from_iterable(places.tables), places.ends))
        begins = [_array(kind.begin) for kind in kinds]
        of_kinds = (abi.AttentionKind * len(kinds))(*map(self._attention_kind, kinds, begins))
        arguments = abi.Decode(
            torch.get_num_threads(), tails.dtype == torch.bfloat16, storage.format, batch, layers, *self._model,
            ctypes.addressof(of_kinds), address(ids, "ids", (batch, 1), torch.int64),
            *state_addresses((tails, delayed), shapes), to_tails, to_delayed,
            ctypes.addressof(storage.addresses), storage.block_size, len(places.tables[0]),
            *map(ctypes.addressof, (slots, tables, ends)), to_choices, to_logits,
        )  # fmt: skip
        if not self._library.zaya_decode(self._index, ctypes.byref(arguments)):
            raise self._embedding.no_row(ids)
        return logits, new_tails, new_delayed, choices

    def _expect_places(
        self, batch: int, kinds: Sequence[AttentionKind], storage: StoragePointers, places: Places
    ) -> None:
        """Raises ValueError for places outside of the storage, of a row's blocks or of the angles' table."""
        first = self._layers[0]
        if storage.sizes != (len(self._layers), first.key_heads, first.head_dim):
            raise ValueError(f"the storage is that of another model: layers, heads and width are {storage.sizes}")
        lists = (*places, *(kind.begin for kind in kinds))
        most = len(places.tables[0]) if places.tables else 0
        if any(len(one) != batch for one in lists) or any(len(table) != most for table in places.tables) or not most:
            raise ValueError(f"{batch} rows, but places and first positions of {[*map(len, lists)]}, or uneven tables")
        if len(kinds) < self._kind_count:
            raise ValueError(f"the layers have {self._kind_count} kinds of attention; {len(kinds)} were given")
        expect_within("slots", places.slots, 0, storage.blocks * storage.block_size - 1)
        for table in places.tables:
            expect_within("numbers of blocks", (min(table), max(table)), 0, storage.blocks - 1)
        positions = min(kind.cos.shape[1] for kind in kinds)
        expect_within("ends of rows", places.ends, 1, min(positions, most * storage.block_size))
        for kind in kinds:
            if any(not 0 <= begin < end for begin, end in zip(kind.begin, places.ends, strict=True)):
                raise ValueError(f"rows that end at {places.ends} cannot begin at {kind.begin}")

    def _attention_kind(self, kind: AttentionKind, begin: ctypes.Array[ctypes.c_int64]) -> abi.AttentionKind:
        angles = self._layers[0].angle_addresses(kind.cos, kind.sin, (1, kind.cos.shape[1], 1))
        return abi.AttentionKind(*angles, ctypes.addressof(begin))


def _array(values: Iterable[int]) -> ctypes.Array[ctypes.c_int64]:
    numbers = list(values)
    return (_INT64 * len(numbers))(*numbers)
