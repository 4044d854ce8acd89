"""One new token a row through the model in one call of this folder's library (`decode.h`)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from quant.kernels.key_values import DTYPES
from quant.kernels.layer import NativeLayer
from quant.kernels.vocabulary import NativeEmbedding, NativeHead

_INT32, _INT64, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p


class _AttentionKind(ctypes.Structure):
    """`ZayaAttentionKind`."""

    _fields_ = (("rotated", _INT64), *((name, _POINTER) for name in ("cos", "sin", "begin")))


class _Decode(ctypes.Structure):
    """`ZayaDecode`."""

    _fields_ = (
        *((name, _INT32) for name in ("threads", "is_bf16", "format")),
        *((name, _INT64) for name in ("batch", "layers")),
        *((name, _POINTER) for name in ("embedding", "layer", "kind", "head", "kinds", "ids")),
        *((name, _POINTER) for name in ("tails", "delayed", "new_tails", "new_delayed", "storage")),
        *((name, _INT64) for name in ("block_size", "most_blocks")),
        *((name, _POINTER) for name in ("slots", "tables", "end", "choices", "logits")),
    )


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
    """All layers' keys, then values, in float32, bf16 or int8; with int8 the scales of both. See `key_values.h`.

    Made once for a cache, not in every step: to ask so many tensors where they are takes long.
    """

    def __init__(self, storage: Sequence[Sequence[Tensor]]):
        pointers = [tensor.data_ptr() for tensors in storage for tensor in tensors]
        self.addresses = (_POINTER * len(pointers))(*pointers)
        self.format = DTYPES.index(storage[0][0].dtype)


class NativeDecoder:
    """The model's layers, `kinds[layer]` being each one's number among the kinds of attention, between its two ends.

    Between two steps the weights pass through the caches, so that whatever a step touches comes from memory: it makes
    few tensors, and numbers that the library reads alone are no tensors.
    """

    def __init__(
        self, embedding: NativeEmbedding, layers: Sequence[NativeLayer], kinds: Sequence[int], head: NativeHead
    ):
        self._embedding, self._layers, self._head = embedding, list(layers), head  # what the pointers point to
        self._library, self._index = layers[0].library, layers[0].index
        self._pointers = (_POINTER * len(layers))(*(layer.address for layer in layers))
        self._kinds = (_INT32 * len(layers))(*kinds)
        arrays = ctypes.addressof(self._pointers), ctypes.addressof(self._kinds)
        self._model = (embedding.address, *arrays, head.address)

    def __call__(
        self, ids: Tensor, states: tuple[Tensor, Tensor], kinds: Sequence[AttentionKind], storage: StoragePointers,
        block_size: int, places: Places,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
        """Writes the new keys and values into the cache.

        ids: (B, 1) int64; states: tails (L, B, W, C) and delayed (L, B, G*K/2) in the cache's dtype; storage: in blocks
        of `block_size` positions -> logits (B, 1, V) float32, the new tails and delayed, and the choices (L, B) as of
        `NativeLayer.mix`. Raises IndexError for an id that is no row of the embedding.
        """
        ids = ids.long().contiguous()
        tails, delayed = (state.contiguous() for state in states)
        new_tails, new_delayed = torch.empty_like(tails), torch.empty_like(delayed)
        choices = torch.empty(len(tails), len(ids), dtype=torch.int64)
        logits = torch.empty(*ids.shape, self._head.vocabulary, dtype=torch.float32)
        slots, tables, ends = map(_array, (places.slots, chain.from_iterable(places.tables), places.ends))
        begins = [_array(kind.begin) for kind in kinds]
        of_kinds = (_AttentionKind * len(kinds))(*map(_attention_kind, kinds, begins))
        arguments = _Decode(
            torch.get_num_threads(), tails.dtype == torch.bfloat16, storage.format, len(ids), len(tails), *self._model,
            ctypes.addressof(of_kinds), *map(Tensor.data_ptr, (ids, tails, delayed, new_tails, new_delayed)),
            ctypes.addressof(storage.addresses), block_size, len(places.tables[0]),
            *map(ctypes.addressof, (slots, tables, ends)), *map(Tensor.data_ptr, (choices, logits)),
        )  # fmt: skip
        if not self._library.zaya_decode(self._index, ctypes.byref(arguments)):
            raise self._embedding.no_row(ids)
        return logits, new_tails, new_delayed, choices


def _array(values: Iterable[int]) -> ctypes.Array[ctypes.c_int64]:
    numbers = list(values)
    return (_INT64 * len(numbers))(*numbers)


def _attention_kind(kind: AttentionKind, begin: ctypes.Array[ctypes.c_int64]) -> _AttentionKind:
    return _AttentionKind(kind.cos.shape[-1], kind.cos.data_ptr(), kind.sin.data_ptr(), ctypes.addressof(begin))
