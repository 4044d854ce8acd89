"""One new token a row through all layers in one call of this folder's library (`layer.h`)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from quant.kernels.key_values import DTYPES
from quant.kernels.layer import NativeLayer

_INT32, _INT64, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p


class _AttentionKind(ctypes.Structure):
    """`ZayaAttentionKind`."""

    _fields_ = (("rotated", _INT64), *((name, _POINTER) for name in ("cos", "sin", "begin")))


class _Decode(ctypes.Structure):
    """`ZayaDecode`."""

    _fields_ = (
        *((name, _INT32) for name in ("threads", "is_bf16", "format")),
        *((name, _INT64) for name in ("batch", "layers")),
        *((name, _POINTER) for name in ("layer", "kind", "kinds", "residual")),
        *((name, _POINTER) for name in ("tails", "delayed", "new_tails", "new_delayed", "storage")),
        *((name, _INT64) for name in ("block_size", "most_blocks")),
        *((name, _POINTER) for name in ("slots", "tables", "end", "choices")),
    )


class AttentionKind(NamedTuple):
    """What layers of one kind of attention share: cos, sin (B, 1, 1, rotated) and the first position seen (B) int64."""

    cos: Tensor
    sin: Tensor
    begin: Tensor


class Places(NamedTuple):
    """Where rows are in the cache, int64: `slots` (B) for the new position, `tables` (B, blocks), `ends` (B)."""

    slots: Tensor
    tables: Tensor
    ends: Tensor


class StoragePointers:
    """All layers' keys, then values, in float32, bf16 or int8; with int8 the scales of both. See `key_values.h`.

    Made once for a cache, not in every step: to ask so many tensors where they are takes long.
    """

    def __init__(self, storage: Sequence[Sequence[Tensor]]):
        pointers = [tensor.data_ptr() for tensors in storage for tensor in tensors]
        self.addresses = (_POINTER * len(pointers))(*pointers)
        self.format = DTYPES.index(storage[0][0].dtype)


class NativeDecoder:
    """All layers, `kinds[layer]` being each one's number among the kinds of attention."""

    def __init__(self, layers: Sequence[NativeLayer], kinds: Sequence[int]):
        self._layers = list(layers)  # what the pointers point to
        self._library, self._index = layers[0].library, layers[0].index
        self._pointers = (_POINTER * len(layers))(*(layer.address for layer in layers))
        self._kinds = (_INT32 * len(layers))(*kinds)

    def __call__(
        self, residual: Tensor, states: tuple[Tensor, Tensor], kinds: Sequence[AttentionKind],
        storage: StoragePointers, block_size: int, places: Places,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Changes `residual` (B, 1, D) float32 in place and writes the new keys and values into the cache.

        states: tails (L, B, W, C) and delayed (L, B, G*K/2) in the cache's dtype; storage: in blocks of `block_size`
        positions -> the new tails and delayed, and the choices (L, B) as of `NativeLayer.mix`.
        """
        tails, delayed = (state.contiguous() for state in states)
        new_tails, new_delayed = torch.empty_like(tails), torch.empty_like(delayed)
        choices = torch.empty(len(tails), len(residual), dtype=torch.int64)
        kind_list = [_AttentionKind(kind.cos.shape[-1], *map(Tensor.data_ptr, kind)) for kind in kinds]
        of_kinds = (_AttentionKind * len(kinds))(*kind_list)
        arguments = _Decode(
            torch.get_num_threads(), tails.dtype == torch.bfloat16, storage.format,
            len(residual), len(tails),
            *(ctypes.addressof(array) for array in (self._pointers, self._kinds, of_kinds)), residual.data_ptr(),
            *map(Tensor.data_ptr, (tails, delayed, new_tails, new_delayed)),
            ctypes.addressof(storage.addresses), block_size, places.tables.shape[1],
            *map(Tensor.data_ptr, (places.slots, places.tables, places.ends, choices)),
        )  # fmt: skip
        self._library.zaya_decode(self._index, ctypes.byref(arguments))
        return new_tails, new_delayed, choices
