"""`nf4`: bitsandbytes' NF4 in blocks of 64, 4.5 bits a weight. Made, and on GPUs multiplied, by bitsandbytes.

On a CPU it is many times slower than `int4` and `int8`: there are no fast products for it there.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from quant.formats import GROUP, Format, MissingLibraryError
from quant.packed import PackedMatrix
from quant.rounding import expect_finite


def bitsandbytes() -> Any:
    """The library, imported on first use. Raises MissingLibraryError without it."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of kernels that are not used here
    try:
        import bitsandbytes as library
    except ImportError:
        raise MissingLibraryError(
            "nf4 needs the bitsandbytes library, which is not installed: type `pip install bitsandbytes`, or use int4."
        ) from None
    return library


class NF4Matrix(PackedMatrix):
    """weight = one of 16 fixed levels * the largest magnitude of its block of 64."""

    kind: ClassVar[Format] = "nf4"

    def _multiply_on_card(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        if dtype != x.dtype:  # bitsandbytes would round results to bf16, in which many are equal
            return super()._multiply_on_card(x, dtype)
        state = _state(self.scales, self.shape, dtype)
        product: Tensor = bitsandbytes().matmul_4bit(x, self.codes.view(-1, 1).t(), state)
        return product

    def _gather(self, index: Tensor) -> Tensor:
        return _dequantize(self.codes[index], self.scales[index])

    def _rows_of(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        return _dequantize(self.codes[start:stop], self.scales[start:stop]).to(dtype)


def quantize_nf4(weight: Tensor) -> dict[str, Tensor]:
    """weight: (N, K) -> the tensors of an `NF4Matrix`. Raises MissingLibraryError, ValueError for infinite weights."""
    weight = weight.contiguous()
    expect_finite(weight.float().abs().amax(dim=1))
    packed, state = bitsandbytes().functional.quantize_4bit(weight, blocksize=GROUP, quant_type="nf4")
    n, k = weight.shape
    return {"codes": packed.view(n, k // 2), "scales": state.absmax.view(n, k // GROUP)}


def _dequantize(codes: Tensor, scales: Tensor) -> Tensor:
    """codes: (n, K/2), scales: (n, K/64) -> (n, K) float32."""
    n, half = codes.shape
    flat = codes.contiguous().view(-1, 1)
    return bitsandbytes().functional.dequantize_4bit(flat, _state(scales, (n, 2 * half), torch.float32)).view(n, -1)


def _state(scales: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> Any:
    """What bitsandbytes keeps beside the codes. dtype: that of results."""
    return bitsandbytes().functional.QuantState(
        absmax=scales.contiguous().flatten(),
        shape=torch.Size(shape),
        code=_levels(str(scales.device)),
        blocksize=GROUP,
        quant_type="nf4",
        dtype=dtype,
    )


@cache
def _levels(device: str) -> Any:
    """The 16 levels on a device: made for every product they would be a copy to the card each time."""
    return bitsandbytes().functional.get_4bit_type("nf4", device=device, blocksize=GROUP)
