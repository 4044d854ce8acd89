"""`fp8` and `mxfp4`: the formats of Zyphra's own quantized repositories, written by compressed-tensors and only read.

The bytes stay as they are; rows are turned to float32 when they are multiplied.
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from quant.formats import MX_GROUP, Format
from quant.packed import PackedMatrix

_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # magnitudes; the fourth bit is the sign
_E8M0_BIAS = 127


class FP8Matrix(PackedMatrix):
    """codes: (N, K) float8 (4 exponent bits, 3 of mantissa), scales: (N, 1); weight = code * scale."""

    kind: ClassVar[Format] = "fp8"

    def _gather(self, index: Tensor) -> Tensor:
        return self.codes.view(torch.uint8)[index].view(torch.float8_e4m3fn).float().mul_(self.scales[index].float())

    def _rows_of(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        return self.codes[start:stop].to(dtype).mul_(self.scales[start:stop])


class MXFP4Matrix(PackedMatrix):
    """codes: (N, K/2) uint8, the first of two weights in the low four bits; scales: (N, K/32), exponents of two."""

    kind: ClassVar[Format] = "mxfp4"

    def _gather(self, index: Tensor) -> Tensor:
        return _decode_mxfp4(self.codes[index], self.scales[index])

    def _rows_of(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        return _decode_mxfp4(self.codes[start:stop], self.scales[start:stop]).to(dtype)


def _decode_mxfp4(codes: Tensor, scales: Tensor) -> Tensor:
    """codes: (n, K/2) uint8, scales: (n, K/32) uint8 -> (n, K) float32."""
    nibbles = torch.stack([codes & 0x0F, codes >> 4], dim=-1).flatten(1)  # (n, K)
    weights = _levels(codes.device)[nibbles.int()].unflatten(1, (-1, MX_GROUP))
    powers = torch.ldexp(torch.ones(scales.shape, device=codes.device), scales.int() - _E8M0_BIAS)
    return weights.mul_(powers[..., None]).flatten(1)


@cache
def _levels(device: torch.device) -> Tensor:
    """The 16 values of a code on a device."""
    return torch.tensor([*_E2M1, *(-level for level in _E2M1)], device=device)
