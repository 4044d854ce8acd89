"""The formats of packed matrices: one table, which all that names a format asks.

A packed matrix (N, K) is a set of tensors by suffix, here without and for a stack of E matrices with a leading E. The
shapes of `int4` and `int8` are those of `tiles.py`, frozen as format version 1. `nf4` is what bitsandbytes makes; `fp8`
and `mxfp4` are what compressed-tensors makes, and are only read.

A new format is a module with its matrix, and a record here. Nothing of this file needs torch: classes and functions are
named, and imported where they are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch  # imported where it is used: reading a config.json does not need it

Format = Literal["int4", "int8", "nf4", "fp8", "mxfp4"]

FORMAT_VERSION = 1
GROUP = 64  # columns that share a scale in int4 and nf4; every K is a multiple of it
TILE = 16  # rows that lie side by side in int4 and int8
MX_GROUP = 32  # columns that share a scale in mxfp4


Shape = tuple[int, ...]
Stored = Mapping[str, tuple[Shape, tuple[str, ...]]]  # by suffix; dtypes by their names in torch


@dataclass(frozen=True)
class Scheme:
    """What compressed-tensors calls a format of float weights: its bits, strategies and group, and this in words."""

    bits: int
    strategies: tuple[str | None, ...]
    group: int | None
    words: str


@dataclass(frozen=True)
class WeightFormat:
    """One format. Classes and functions are named as "module:name", see `imported`.

    bits: stored bits of one weight, scales included, for K much larger than a row's scale.
    stored: (N, K) -> by suffix the shape of each stored tensor, and the names of the dtypes it may have, the largest
    tensor first.
    matrix, stack: classes, of a `PackedMatrix` and of a `Stack` of them.
    quantizer: (N, K) weights -> tensors; None where the format is only read. is_fitted: whether it takes the statistics
    of typical inputs, too. levels: where each row is rounded to nearest with the scale absmax / levels, that number.
    reader: what multiplies it on a CPU: the native products, torch by way of float32, or bitsandbytes.
    library: raises MissingLibraryError where a library that is needed is not there.
    is_dense_too: whether attention, embedding and head may have it, besides the experts.
    scheme: how compressed-tensors describes it. spellings: by suffix, what other programs call its tensors, `{}` being
    the name of the parameter.
    """

    name: Format
    bits: float
    stored: Callable[[int, int], Stored]
    matrix: str
    stack: str = "quant.matrix:Stack"
    quantizer: str | None = None
    is_fitted: bool = False
    levels: int | None = None
    reader: Literal["native", "torch", "bitsandbytes"] = "torch"
    library: str | None = None
    is_dense_too: bool = False
    scheme: Scheme | None = None
    spellings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def has_fast_products(self) -> bool:
        """Whether there are native products of it on a CPU."""
        return self.reader == "native"


def _int4(n: int, k: int) -> Stored:
    tiles, groups = -(-n // TILE), k // GROUP
    return {
        "codes": ((tiles, groups, GROUP // 8, TILE, 4), ("uint8",)),
        "scales": ((tiles, groups, TILE), ("float16",)),
    }


def _int8(n: int, k: int) -> Stored:
    tiles = -(-n // TILE)
    return {"codes": ((tiles, k // 4, TILE, 4), ("int8",)), "scales": ((tiles * TILE,), ("float32",))}


def _nf4(n: int, k: int) -> Stored:
    return {"codes": ((n, k // 2), ("uint8",)), "scales": ((n, k // GROUP), ("float32",))}


def _fp8(n: int, k: int) -> Stored:
    return {"codes": ((n, k), ("float8_e4m3fn",)), "scales": ((n, 1), ("bfloat16", "float32"))}


def _mxfp4(n: int, k: int) -> Stored:
    return {"codes": ((n, k // 2), ("uint8",)), "scales": ((n, k // MX_GROUP), ("uint8",))}


_SCALE_SPELLINGS = ("{}.weight_scale", "{}_scale")

# In the order in which they are offered for the experts.
_TABLE = (
    WeightFormat(
        name="int4",
        bits=4 + 16 / GROUP,
        stored=_int4,
        matrix="quant.int4:Int4Matrix",
        stack="quant.int4:Int4Stack",
        quantizer="quant.int4:quantize_fitted",
        is_fitted=True,
        reader="native",
        is_dense_too=True,
    ),
    WeightFormat(
        name="int8",
        bits=8.0,
        stored=_int8,
        matrix="quant.int8:Int8Matrix",
        quantizer="quant.int8:quantize_int8",
        levels=127,
        reader="native",
        is_dense_too=True,
    ),
    WeightFormat(
        name="nf4",
        bits=4 + 32 / GROUP,
        stored=_nf4,
        matrix="quant.nf4:NF4Matrix",
        quantizer="quant.nf4:quantize_nf4",
        reader="bitsandbytes",
        library="quant.nf4:bitsandbytes",
    ),
    WeightFormat(
        name="fp8",
        bits=8.0,
        stored=_fp8,
        matrix="quant.compressed:FP8Matrix",
        scheme=Scheme(8, ("channel",), None, "of 8 bits by channel"),
        spellings={"codes": ("{}", "{}.weight"), "scales": _SCALE_SPELLINGS},
    ),
    WeightFormat(
        name="mxfp4",
        bits=4 + 8 / MX_GROUP,
        stored=_mxfp4,
        matrix="quant.compressed:MXFP4Matrix",
        scheme=Scheme(4, ("group", None), MX_GROUP, f"of 4 bits in groups of {MX_GROUP}"),
        spellings={"codes": ("{}.weight_packed", "{}_packed"), "scales": _SCALE_SPELLINGS},
    ),
)

FORMATS: Mapping[Format, WeightFormat] = {one.name: one for one in _TABLE}


class MissingLibraryError(ImportError):
    """A library that one format needs is not installed; the message says how to get it."""


@cache
def imported(name: str) -> Any:
    """The "module:name" of the table."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a packed matrix: its shape and the dtypes it may have."""

    shape: Shape
    dtypes: tuple[torch.dtype, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in the first of the dtypes."""
        return math.prod(self.shape) * self.dtypes[0].itemsize


def stored_tensors(kind: Format, shape: Shape) -> dict[str, StoredTensor]:
    """The tensors by suffix, the largest first. shape: (N, K) or (E, N, K).

    Raises ValueError where K is not a multiple of the group.
    """
    import torch

    *lead, n, k = shape
    if k % GROUP:
        raise ValueError(f"{kind} needs inputs in groups of {GROUP}; {k} is not a multiple of it")
    return {
        suffix: StoredTensor((*lead, *part), tuple(getattr(torch, name) for name in dtypes))
        for suffix, (part, dtypes) in FORMATS[kind].stored(n, k).items()
    }
