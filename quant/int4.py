"""`int4`: symmetric groups of 64 along K with a float16 scale each, 4.25 bits a weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from quant.compensation import InputStatistics
from quant.formats import GROUP, TILE, Format, stored_tensors
from quant.matrix import Stack, expect_columns
from quant.packed import INPUTS, PackedMatrix
from quant.products import dequantize_int4, multiply_int4, multiply_int4_experts
from quant.rounding import Rounded, round_searched
from quant.tiles import chunks_of_tiles, int4_rows, pack_int4, pack_int4_scales


class Int4Matrix(PackedMatrix):
    """weight = code * scale of its row and group, codes -8..7."""

    kind: ClassVar[Format] = "int4"

    def _multiply(self, x: Tensor) -> Tensor:
        return multiply_int4(x, self.codes, self.scales, self.shape[0])

    def _gather(self, index: Tensor) -> Tensor:
        scales = self.scales[index // TILE, :, index % TILE].float()  # (n, K/64)
        weights = int4_rows(self.codes, index).float().unflatten(1, (-1, GROUP))
        return weights.mul_(scales[..., None]).flatten(1)

    def _rows_of(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        return dequantize_int4(self.codes, self.scales, start, stop, dtype)


class Int4Stack(Stack[Int4Matrix]):
    """A stack whose experts are multiplied by one call where there are native products."""

    def __init__(self, matrices: Sequence[Int4Matrix]):
        super().__init__(matrices)
        self._codes = [matrix.codes for matrix in matrices]
        self._scales = [matrix.scales for matrix in matrices]

    def _multiply_experts(self, x: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        expect_columns(x, x.shape[1], INPUTS, self._codes[0].device)
        product = multiply_int4_experts(x, self._codes, self._scales, groups, self.matrices[0].shape[0])
        return super()._multiply_experts(x, groups) if product is None else product.to(x.dtype)


def pack_rounded(rounded: Rounded) -> dict[str, Tensor]:
    """The tensors of an `Int4Matrix` with these codes and scales."""
    return {"codes": pack_int4(rounded.codes), "scales": pack_int4_scales(rounded.scales)}


def quantize_int4(weight: Tensor, round_rows: Callable[[Tensor], Rounded] = round_searched) -> dict[str, Tensor]:
    """weight: (N, K) -> the tensors of an `Int4Matrix`, made a chunk of rows at a time.

    round_rows: how some rows (n, K) get codes and scales. Raises ValueError as that does.
    """
    stored = stored_tensors("int4", tuple(weight.shape))
    tensors = {suffix: torch.empty(one.shape, dtype=one.dtypes[0]) for suffix, one in stored.items()}
    for start, stop in chunks_of_tiles(*weight.shape):
        packed = pack_rounded(round_rows(weight[start:stop]))
        for suffix, part in packed.items():
            tensors[suffix][start // TILE : start // TILE + len(part)] = part
    return tensors


def quantize_fitted(weight: Tensor, inputs: InputStatistics | None) -> dict[str, Tensor]:
    """As `quantize_int4`; errors are compensated where typical inputs are known, and are enough."""
    compensation = None if inputs is None else inputs.compensation()
    return quantize_int4(weight) if compensation is None else quantize_int4(weight, compensation.round)
