"""A layer's keys and values in blocks, as kernels read and write them (`HeadRows` and `Scales` of the arrangements)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from quant.kernels.triton.arguments import FLOAT32, FLOATS, expect_tensors
from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.blocks import BlockPool
from zaya_core.kernels.triton.stored import writable

Pointers = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class LayerKV:
    """keys, values: (blocks, G, BLOCK, K) float32, bfloat16, or int8, with scales (blocks, G, BLOCK) float32.

    Valid as long as the pool's `generation` is the same. Raises ValueError for other tensors.
    """

    keys: Tensor
    values: Tensor
    key_scales: Tensor | None = None
    value_scales: Tensor | None = None

    def __post_init__(self) -> None:
        keys, shape = self.keys, self.keys.shape
        if keys.dim() != 4 or shape[2] != BLOCK:
            raise ValueError(f"keys must be (blocks, G, {BLOCK}, K); they are {tuple(shape)}")
        is_int8 = keys.dtype == torch.int8
        dtypes = (torch.int8,) if is_int8 else FLOATS
        expect_tensors(keys.device, keys=(keys, shape, dtypes), values=(self.values, shape, (keys.dtype,)))
        scales = (self.key_scales, self.value_scales)
        if any((one is not None) != is_int8 for one in scales):
            raise ValueError(f"int8 keys and values have scales, others none; these are {keys.dtype}")
        for name, one in zip(("key_scales", "value_scales"), scales, strict=True):
            if one is not None:
                expect_tensors(keys.device, **{name: (one, shape[:3], FLOAT32)})

    @classmethod
    def of(cls, pool: BlockPool, layer: int) -> LayerKV:
        """A pool's of one layer."""
        return cls(**{name: layers[layer] for name, layers in pool.tensors.items()})

    @property
    def groups(self) -> int:
        """G."""
        return self.keys.shape[1]

    @property
    def head_dim(self) -> int:
        """K."""
        return self.keys.shape[3]

    @property
    def is_int8(self) -> bool:
        return self.key_scales is not None

    @property
    def read(self) -> Pointers:
        """Keys, values and their scales for kernels; those that are none are not read."""
        return self.keys, self.values, *self._scales

    @property
    def written(self) -> Pointers:
        """Likewise for a kernel that writes."""
        return writable(self.keys), writable(self.values), *self._scales

    @property
    def _scales(self) -> tuple[Tensor, Tensor]:
        if self.key_scales is None or self.value_scales is None:
            return self.keys, self.values
        return self.key_scales, self.value_scales
