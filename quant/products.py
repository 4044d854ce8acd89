"""Products of rows by int4 and int8 matrices, and the place where the fastest one for this machine is chosen.

The products below are the reference: they turn some rows of the weights to float32 at a time and multiply in float32,
so that they equal a product with the dequantized matrix. On a CPU the native products are taken where there are any;
those round x to int8 with a scale for each group of 64 columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from quant.formats import GROUP, TILE
from quant.kernels.native import NativeProducts
from quant.kernels.resolve import cpu_products
from quant.matrix import multiply_by_slices
from quant.tiles import unpack_int4, unpack_int8


def multiply_int4(x: Tensor, codes: Tensor, scales: Tensor, n: int) -> Tensor:
    """x: (M, K) float32 or bfloat16, codes and scales as in `tiles.py` -> (M, N) float32."""
    if native := _native_products(x):
        return native.matmul("int4", x, [codes], [scales], [len(x)], n)
    return multiply_by_slices(x.float(), partial(dequantize_int4, codes, scales), n)


def multiply_int8(x: Tensor, codes: Tensor, scales: Tensor, n: int) -> Tensor:
    """x: (M, K) float32 or bfloat16, codes and scales as in `tiles.py` -> (M, N) float32."""
    if native := _native_products(x):
        return native.matmul("int8", x, [codes], [scales], [len(x)], n)
    return multiply_by_slices(x.float(), partial(dequantize_int8, codes, scales), n)


def multiply_int4_experts(
    x: Tensor, codes: Sequence[Tensor], scales: Sequence[Tensor], groups: Sequence[tuple[int, int]], n: int
) -> Tensor | None:
    """x: (M, K), sorted by expert; groups as in `Stack.matmul_experts` -> (M, N) float32.

    None where there are no native products.
    """
    if (native := _native_products(x)) is None:
        return None
    experts, counts = zip(*groups, strict=True)
    return native.matmul("int4", x, [codes[e] for e in experts], [scales[e] for e in experts], counts, n)


def _native_products(x: Tensor) -> NativeProducts | None:
    return cpu_products().native if x.device.type == "cpu" else None


def dequantize_int4(codes: Tensor, scales: Tensor, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Rows start..stop-1 of the weights, start a multiple of 16 -> (stop - start, K), each rounded once to `dtype`."""
    tiles = slice(start // TILE, -(-stop // TILE))
    weights = unpack_int4(codes[tiles], dtype).view(-1, TILE, codes.shape[1], GROUP)
    weights *= scales[tiles].transpose(1, 2)[..., None]
    return weights.flatten(0, 1).flatten(1)[: stop - start]


def dequantize_int8(codes: Tensor, scales: Tensor, start: int, stop: int, dtype: torch.dtype) -> Tensor:
    """Rows start..stop-1 of the weights, start a multiple of 16 -> (stop - start, K), each rounded once to `dtype`."""
    rows = unpack_int8(codes[start // TILE : -(-stop // TILE)])[: stop - start]
    return rows.to(dtype).mul_(scales[start:stop, None])
