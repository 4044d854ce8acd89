"""What each architecture is launched with: warps, widths of tiles, loads in flight.

Chosen by registers and instructions of compiled kernels (docs/gpu.md). It changes the order of sums, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from quant.kernels.triton.launch import IS_INTERPRETED

INTERPRETER = "interpreter"
_WIDE = 8192  # columns of `out`: from here on there are programs for every processor of a card, however wide they are


@dataclass(frozen=True)
class Shape:
    """Of a product's programs.

    rows, columns: of `out` that one computes. groups: of 64 columns of K that it multiplies side by side, each by a
    warp of its own. chunk: columns of K that it loads before it uses the first. stages: loads in flight in a loop.
    by_bits: whether the card has no instruction that rounds to bfloat16.
    """

    rows: int
    columns: int
    warps: int
    groups: int = 1
    chunk: int = 64
    stages: int = 1
    by_bits: bool = False


@cache
def architecture(device: torch.device) -> str:
    """ "sm_86", "gfx1100", or "interpreter"."""
    if IS_INTERPRETED:
        return INTERPRETER
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        return str(properties.gcnArchName).partition(":")[0]
    return f"sm_{properties.major}{properties.minor}"


def one_row(architecture: str, bits: int) -> Shape:
    """Of products of one row: a tile of packed weights, or four rows of floats, 16 KB in flight."""
    if bits < 16:
        return Shape(rows=1, columns=16, warps=8, chunk=2048)
    return Shape(rows=1, columns=4, warps=4, chunk=1024)


def few_rows(architecture: str, bits: int, n: int) -> Shape:
    """Of products of 2 to 16 rows. n: columns of `out`.

    Few programs have to keep much in flight: warps read different columns of K, and add at the end. Loads are ahead of
    their use, but where the compiler makes it worse: on AMD it takes twice the registers, and int8 is copied by words.
    """
    if architecture == INTERPRETER:
        return Shape(rows=16, columns=32, warps=4, groups=2)
    if architecture.startswith("gfx"):
        return Shape(rows=16, columns=16, warps=8, groups=8, by_bits=True)
    if bits == 8:
        return Shape(rows=16, columns=16, warps=8, groups=8)
    return Shape(rows=16, columns=32 if bits == 4 and n >= _WIDE else 16, warps=4, groups=4, stages=2)


def many_rows(architecture: str, bits: int, pairs: bool) -> Shape:
    """Of products of more rows. pairs: of gates and ups, which are twice as many sums."""
    if architecture == INTERPRETER:
        return Shape(rows=16, columns=32, warps=4)
    columns = 32 if pairs else 64
    if architecture.startswith("gfx"):
        return Shape(rows=32, columns=columns, warps=4, by_bits=True)
    return Shape(rows=64, columns=columns, warps=4 if pairs else 8, stages=2)
