"""`int8`: symmetric, one float32 scale for each output row, the same numbers as bitsandbytes' vector-wise int8."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from quant.formats import TILE, Format, stored_tensors
from quant.packed import PackedMatrix
from quant.products import dequantize_int8, multiply_int8
from quant.rounding import expect_finite
from quant.tiles import chunks_of_tiles, int8_rows, pack_int8

_SMALLEST = 1e-30  # a row below it becomes zeros: 127 / absmax might overflow


class Int8Matrix(PackedMatrix):
    """weight = code * scale of its row; scale = absmax of the row / 127, codes -127..127."""

    kind: ClassVar[Format] = "int8"

    def _multiply(self, x: Tensor) -> Tensor:
        return multiply_int8(x, self.codes, self.scales, self.shape[0])

    def _gather(self, index: Tensor) -> Tensor:
        return int8_rows(self.codes, index).float().mul_(self.scales[index, None])

    def _rows_of(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        return dequantize_int8(self.codes, self.scales, start, stop, dtype)


def round_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """weight: (N, K) -> codes (N, K) int8, scales (N) float32. Raises ValueError for weights that are not finite."""
    codes, scales = nearest_int8(weight)
    expect_finite(scales)
    return codes, scales


def nearest_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """rows: (..., K) -> codes (..., K) int8, scales (...) float32; a scale is not finite where its row is not."""
    rows = rows.float()
    absmax = rows.abs().amax(dim=-1)
    inverse = torch.where(absmax > _SMALLEST, 127.0 / absmax, 0.0)
    return torch.round(rows * inverse[..., None]).to(torch.int8), absmax / 127.0


def quantize_int8(weight: Tensor) -> dict[str, Tensor]:
    """weight: (N, K) -> the tensors of an `Int8Matrix`, made a chunk of rows at a time."""
    stored = stored_tensors("int8", tuple(weight.shape))
    codes = torch.empty(stored["codes"].shape, dtype=torch.int8)
    scales = torch.zeros(stored["scales"].shape)
    for start, stop in chunks_of_tiles(*weight.shape):
        part, scale = round_int8(weight[start:stop])
        tiles = pack_int8(part)
        codes[start // TILE : start // TILE + len(tiles)] = tiles
        scales[start:stop] = scale
    return {"codes": codes, "scales": scales}
