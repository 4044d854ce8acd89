"""The formats of packed matrices, and the tensors that each is stored as.

A packed matrix (N, K) is a set of tensors by suffix, here without and for a stack of E matrices with a leading E. The
shapes of `int4` and `int8` are those of `tiles.py`, frozen as format version 1. `nf4` is what bitsandbytes makes; `fp8`
and `mxfp4` are what compressed-tensors makes, and are only read.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch  # imported where it is used: reading a config.json does not need it

Format = Literal["int8", "int4", "nf4", "fp8", "mxfp4"]

FORMAT_VERSION = 1
GROUP = 64  # columns that share a scale in int4 and nf4; every K is a multiple of it
TILE = 16  # rows that lie side by side in int4 and int8
MX_GROUP = 32  # columns that share a scale in mxfp4


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a packed matrix: its shape and the dtypes it may have."""

    shape: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in the first of the dtypes."""
        return math.prod(self.shape) * self.dtypes[0].itemsize


def stored_tensors(kind: Format, shape: tuple[int, ...]) -> dict[str, StoredTensor]:
    """The tensors by suffix, the largest first. shape: (N, K) or (E, N, K).

    Raises ValueError where K is not a multiple of the group.
    """
    import torch

    *lead, n, k = shape
    if k % GROUP:
        raise ValueError(f"{kind} needs inputs in groups of {GROUP}; {k} is not a multiple of it")
    tiles = -(-n // TILE)
    shapes: dict[str, tuple[tuple[int, ...], tuple[torch.dtype, ...]]]
    if kind == "int4":
        groups = k // GROUP
        shapes = {
            "codes": ((tiles, groups, GROUP // 8, TILE, 4), (torch.uint8,)),
            "scales": ((tiles, groups, TILE), (torch.float16,)),
        }
    elif kind == "int8":
        shapes = {"codes": ((tiles, k // 4, TILE, 4), (torch.int8,)), "scales": ((tiles * TILE,), (torch.float32,))}
    elif kind == "nf4":
        shapes = {"codes": ((n, k // 2), (torch.uint8,)), "scales": ((n, k // GROUP), (torch.float32,))}
    elif kind == "fp8":
        shapes = {"codes": ((n, k), (torch.float8_e4m3fn,)), "scales": ((n, 1), (torch.bfloat16, torch.float32))}
    else:
        shapes = {"codes": ((n, k // 2), (torch.uint8,)), "scales": ((n, k // MX_GROUP), (torch.uint8,))}
    return {suffix: StoredTensor((*lead, *part), dtypes) for suffix, (part, dtypes) in shapes.items()}


def bits_per_weight(kind: Format) -> float:
    """Stored bits of one weight, scales included, for K much larger than a row's scale."""
    return {"int8": 8.0, "int4": 4 + 16 / GROUP, "nf4": 4 + 32 / GROUP, "fp8": 8.0, "mxfp4": 4 + 8 / MX_GROUP}[kind]
