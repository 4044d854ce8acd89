"""What each architecture is launched with: warps, widths of tiles, stages of loads in flight."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from quant.kernels.triton.launch import IS_INTERPRETED

INTERPRETER = "interpreter"


@dataclass(frozen=True)
class Shape:
    """Of a product's programs.

    rows, columns: of `out` that one computes. chunk: columns of K that it loads before it uses the first. stages: loads
    in flight in a loop.
    """

    rows: int
    columns: int
    warps: int
    chunk: int = 64
    stages: int = 1


@cache
def architecture(device: torch.device) -> str:
    """"sm_86", "gfx1100", or "interpreter"."""
    if IS_INTERPRETED:
        return INTERPRETER
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip:
        return str(properties.gcnArchName).partition(":")[0]
    return f"sm_{properties.major}{properties.minor}"


def one_row(architecture: str, bits: int) -> Shape:
    """Of products of one row: a tile of 16 rows of packed weights, or as many rows of floats as are 16 KB or so."""
    if bits < 16:
        return Shape(rows=1, columns=16, warps=8, chunk=2048)
    return Shape(rows=1, columns=4, warps=4, chunk=1024)


def few_rows(architecture: str, bits: int) -> Shape:
    """Of products of 2 to 16 rows."""
    if architecture == INTERPRETER:
        return Shape(rows=16, columns=32, warps=4)
    return Shape(rows=16, columns=32, warps=4, stages=3)


def many_rows(architecture: str, bits: int) -> Shape:
    """Of products of a prompt's rows."""
    if architecture == INTERPRETER:
        return Shape(rows=16, columns=32, warps=4)
    return Shape(rows=64, columns=64, warps=4, stages=2)
