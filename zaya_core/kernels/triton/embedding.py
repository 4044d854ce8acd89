"""Ids to the residual stream (reference: `ZayaModel.embed_tokens`, with the scaling before the first layer)."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton.arguments import FLOAT32, INT32, expect_tensors
from quant.kernels.triton.launch import Launch, power_of_two
from quant.kernels.triton.weights import CardMatrix


@triton.jit
def embed_rows(
    ids, positions, codes, scales, bias, scale, residual, D: tl.constexpr, DP: tl.constexpr, BITS: tl.constexpr
):
    """(row + bias) * scale. Grid: rows. BITS tells formats apart: 4 and 8 are tiles, 16 and 32 rows."""
    row = tl.program_id(0)
    k = tl.arange(0, DP)
    is_row = tl.load(positions + row) >= 0
    inside = (k < D) & is_row
    at = tl.load(ids + row, mask=is_row, other=0).to(tl.int64)
    tile, lane = at // 16, at % 16
    if BITS == 4:
        group, column = k // 64, k % 64
        where = codes + tile * (D * 8) + group * 512 + (column // 8) * 64 + lane * 4 + column % 4
        both = tl.load(where, mask=inside, other=0).to(tl.int32)
        factor = tl.load(scales + (tile * (D // 64) + group) * 16 + lane, mask=inside, other=0.0).to(tl.float32)
        x = (((both >> (column % 8 // 4 * 4)) & 15) - 8).to(tl.float32) * factor
    elif BITS == 8:
        where = codes + tile * (D * 16) + (k // 4) * 64 + lane * 4 + k % 4
        x = tl.load(where, mask=inside, other=0).to(tl.float32) * tl.load(scales + at, mask=is_row, other=0.0)
    else:
        x = tl.load(codes + at * D + k, mask=inside, other=0.0).to(tl.float32)
    x = (x + tl.load(bias + k, mask=inside, other=0.0)) * tl.load(scale + k, mask=inside, other=0.0)
    tl.store(residual + row * D + k, x, mask=k < D)


def embedding(
    ids: Tensor, positions: Tensor, embed_tokens: CardMatrix, bias: Tensor, scale: Tensor, residual: Tensor
) -> Launch:
    """ids, positions (B) int32 -> residual (B, D) float32, of which rows at position -1 are zero.

    embed_tokens: (V, D) without a bias of its own; bias, scale: (D) float32. An id is one of its rows: whoever sets it
    has checked it. Raises ValueError for other tensors.
    """
    rows, width = residual.shape
    if embed_tokens.shape[1] != width or embed_tokens.bias is not None:
        raise ValueError(f"rows of an embedding are {width} wide and have no bias; these are {embed_tokens.shape[1]}")
    expect_tensors(
        embed_tokens.codes.device,
        ids=(ids, (rows,), INT32),
        positions=(positions, (rows,), INT32),
        bias=(bias, (width,), FLOAT32),
        scale=(scale, (width,), FLOAT32),
        residual=(residual, (rows, width), FLOAT32),
    )
    codes = embed_tokens.codes
    scales = codes if embed_tokens.scales is None else embed_tokens.scales
    options = {"D": width, "DP": power_of_two(width), "BITS": embed_tokens.bits, "num_warps": 8}
    return Launch(embed_rows, (rows,), (ids, positions, codes, scales, bias, scale, residual), options)
