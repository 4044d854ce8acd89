"""Numbers as they are kept between steps: float32, bfloat16, or int8 codes with a scale. Kernels compute in float32."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton.numbers import from_bf16_bits, to_bf16_bits


def writable(tensor: Tensor) -> Tensor:
    """As kernels are given what they write: bfloat16 as bits, which they round themselves."""
    return tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor


def narrowest(weight: Tensor) -> Tensor:
    """The same numbers in bfloat16, contiguous, where all of them are; else in float32. A checkpoint's often are."""
    narrow = weight.bfloat16()
    return (narrow if torch.equal(narrow.float(), weight.float()) else weight.float()).contiguous()


@triton.jit
def load_float(at, mask):
    """Where the mask is false: 0. -> float32."""
    if at.dtype.element_ty == tl.int16:
        x = from_bf16_bits(tl.load(at, mask=mask, other=0))
    else:
        x = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    return x


@triton.jit
def store_float(at, x, mask):
    """x: float32, rounded to the nearest where it is stored as bfloat16's bits."""
    if at.dtype.element_ty == tl.int16:
        tl.store(at, to_bf16_bits(x), mask=mask)
    else:
        tl.store(at, x, mask=mask)


@triton.jit
def round_half_even(x):
    """float32 -> the nearest whole number, of two the even one, as torch.round. |x| below 2^23."""
    down = tl.floor(x)
    rest = x - down
    is_odd = down - 2.0 * tl.floor(down * 0.5) > 0.5
    return down + tl.where((rest > 0.5) | ((rest == 0.5) & is_odd), 1.0, 0.0)


@triton.jit
def nearest_int8(row):
    """row: (K) float32 -> codes (K) int8, scale: as `quant.int8.nearest_int8`."""
    absmax = tl.max(tl.abs(row), 0)
    is_number = absmax > 1e-30
    inverse = tl.where(is_number, tl.div_rn(1.0, tl.where(is_number, absmax, 1.0)) * 127.0, 0.0)
    return round_half_even(row * inverse).to(tl.int8), tl.div_rn(absmax, 127.0)
