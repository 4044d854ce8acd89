"""Rotary angles of a step's rows (reference: `ZayaRotaryEmbedding`), once a step for each kind of layers."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton.arguments import FLOAT32, INT32, expect_tensors
from quant.kernels.triton.launch import Launch, power_of_two


@triton.jit
def rotary_angles(positions, frequencies, cos, sin, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Grid: rows."""
    row = tl.program_id(0)
    d = tl.arange(0, PADDED)
    inside = d < WIDTH
    angle = tl.load(positions + row).to(tl.float32) * tl.load(frequencies + d, mask=inside, other=0.0)
    tl.store(cos + row * WIDTH + d, tl.cos(angle), mask=inside)
    tl.store(sin + row * WIDTH + d, tl.sin(angle), mask=inside)


def angles(positions: Tensor, frequencies: Tensor, cos: Tensor, sin: Tensor) -> Launch:
    """positions (B) int32, frequencies (rotated) float32 -> cos, sin (B, rotated) float32, as `RotaryEmbedding`.

    Raises ValueError for other tensors.
    """
    rows, width = cos.shape
    expect_tensors(
        cos.device,
        positions=(positions, (rows,), INT32),
        frequencies=(frequencies, (width,), FLOAT32),
        cos=(cos, (rows, width), FLOAT32),
        sin=(sin, (rows, width), FLOAT32),
    )
    options = {"WIDTH": width, "PADDED": power_of_two(width), "num_warps": 1}
    return Launch(rotary_angles, (rows,), (positions, frequencies, cos, sin), options)
