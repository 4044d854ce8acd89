"""Matrices in the float dtype they are stored in: the `bf16` format, and float32.

A product reads the stored weights in place, wherever they lie (usually in a mapped file). On a CPU the native products
are taken where there are any. Without them, three ways of multiplying bf16 weights were measured (2 cores of AMD Zen 4,
K = 2048, weights not in the cache):

    rows   oneDNN bf16        oneDNN bf16 on a CPU          torch's own bf16     to float32 by slices of rows,
                              without bf16 instructions     dot products         then a float32 product
    1      16 GB/s            21 GB/s                       30 GB/s              12 GB/s
    32     220-275 GFLOP/s    50 GFLOP/s                    -                    100-120 GFLOP/s

hence the choice in `_multiply_bf16`. `benchmarks/products.py` prints this table.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.card_products import multiply_on_card
from quant.kernels.native import NativeProducts
from quant.kernels.pointers import strided
from quant.kernels.resolve import cpu_products
from quant.matrix import Stack, expect_columns, expect_index, multiply_by_slices, rows_of_slice

_NATIVE_ROWS = 96  # with more, oneDNN's bf16 products are faster than the native ones: 414 against 353 GFLOP/s at 512


class DenseMatrix:
    """An (N, K) matrix with an optional bias (N), multiplied in its stored dtype.

    `matmul` accumulates in float32 and returns the dtype of `x`; `matmul_float32` returns the float32 accumulator. bf16
    weights are multiplied in float32 where x is float32.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        """Raises ValueError for a weight that is no matrix, or a bias that does not fit it."""
        if strided(weight, "a matrix").dim() != 2 or not weight.numel() or not weight.dtype.is_floating_point:
            raise ValueError(f"a matrix must be (N, K) floats; this is {tuple(weight.shape)} {weight.dtype}")
        if bias is not None and (bias.shape != weight.shape[:1] or bias.device != weight.device):
            raise ValueError(f"the bias of a matrix {tuple(weight.shape)} is {tuple(bias.shape)} on {bias.device}")
        self.weight = weight
        self.bias = bias

    @property
    def shape(self) -> tuple[int, int]:
        """N, K."""
        return self.weight.shape[0], self.weight.shape[1]

    @property
    def is_native(self) -> bool:
        """Whether the native products can read the weights where they lie."""
        weight = self.weight
        is_bf16 = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"
        return is_bf16 and weight.shape[1] % 32 == 0 and weight.is_contiguous()

    def matmul(self, x: Tensor) -> Tensor:
        """x: (..., K), of the weights' dtype or float32 -> (..., N) in that of x. Raises ValueError for another x."""
        self.expect_input(x)
        if x.dtype != self.weight.dtype:
            return self.matmul_float32(x)
        if x.dtype != torch.bfloat16 or x.device.type != "cpu":
            return F.linear(x, self.weight, self.bias)
        if native := _native_products(self, x.numel() // x.shape[-1]):
            return self._with_bias(_multiply_natively(native, x, [self.weight], [x.numel() // x.shape[-1]])).to(x.dtype)
        return _multiply_bf16(x, self.weight, self.bias)

    def matmul_float32(self, x: Tensor) -> Tensor:
        """x: (..., K) as `matmul` takes it -> (..., N) float32, never rounded to bf16 on the way."""
        self.expect_input(x)
        rows = x.reshape(-1, x.shape[-1])
        if x.device.type != "cpu":
            y = multiply_on_card(rows, self._rows_of, self.shape[0], torch.float32)
        elif x.dtype != self.weight.dtype:
            y = _multiply_by_slices(rows, self.weight)
        elif x.dtype == torch.float32:
            y = F.linear(rows, self.weight)
        elif native := _native_products(self, 1):  # oneDNN would round to bf16
            y = _multiply_natively(native, rows, [self.weight], [len(rows)])
        else:
            y = _multiply_by_slices(rows.float(), self.weight)
        return self._with_bias(y).view(*x.shape[:-1], self.shape[0])

    def expect_input(self, x: Tensor) -> None:
        """Raises ValueError for an x that is not multiplied."""
        expect_columns(x, self.weight.shape[1], (self.weight.dtype, torch.float32), self.weight.device)

    def _with_bias(self, y: Tensor) -> Tensor:
        return y if self.bias is None else y.add_(self.bias)

    def _rows_of(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        return self.weight[start:stop].to(dtype)

    def rows(self, index: Tensor) -> Tensor:
        """The rows `index` (any shape) as an embedding -> (*index.shape, K). Raises IndexError, ValueError."""
        expect_index(index, len(self.weight))
        return F.embedding(index.to(self.weight.device), self.weight)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return self.weight.nbytes

    def dequantize(self) -> Tensor:
        """The weights: (N, K) float32."""
        return self.weight.float()

    def with_bias(self, bias: Tensor | None) -> DenseMatrix:
        """The same weights, not copied, with another bias."""
        return DenseMatrix(self.weight, bias)


class DenseStack(Stack[DenseMatrix]):
    """E matrices in the float dtype they are stored in."""

    def __init__(self, weights: Sequence[Tensor]):
        super().__init__([DenseMatrix(weight) for weight in weights])

    def _multiply_experts(self, x: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        self.matrices[0].expect_input(x)
        weights = [self.matrices[expert].weight for expert, _ in groups]
        if (
            x.dtype == torch.bfloat16
            and x.device.type == "cpu"
            and (native := _native_products(self.matrices[0], len(x) // len(groups)))
        ):
            return _multiply_natively(native, x, weights, [count for _, count in groups]).to(x.dtype)
        return super()._multiply_experts(x, groups)


def _native_products(matrix: DenseMatrix, rows: int) -> NativeProducts | None:
    if not matrix.is_native:
        return None
    is_onednn_faster = rows > _NATIVE_ROWS and has_bf16_products()
    return None if is_onednn_faster else cpu_products().native_for("bf16")


def _multiply_natively(native: NativeProducts, x: Tensor, weights: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """x: (..., K) bf16 -> (..., N) float32."""
    rows, width = x.reshape(-1, x.shape[-1]), weights[0].shape[0]
    return native.matmul("bf16", rows, weights, (), counts, width).view(*x.shape[:-1], width)


def _multiply_bf16(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if x.numel() == x.shape[-1] or has_bf16_products():
        return F.linear(x, weight, bias)
    y = _multiply_by_slices(x.reshape(-1, x.shape[-1]).float(), weight)
    y = y if bias is None else y.add_(bias)
    return y.to(x.dtype).view(*x.shape[:-1], len(weight))


def _multiply_by_slices(x: Tensor, weight: Tensor) -> Tensor:
    """x: (M, K) float32, weight: (N, K) bf16 -> (M, N) float32, with one slice of the weights in float32 at a time."""
    rows = min(rows_of_slice(weight.shape[1]), len(weight))
    scratch = torch.empty(rows, weight.shape[1], device=weight.device)
    return multiply_by_slices(x, lambda start, stop, _: scratch[: stop - start].copy_(weight[start:stop]), len(weight))


@cache
def has_bf16_products() -> bool:
    """Whether oneDNN has bf16 instructions to use here; without them it is slower than float32."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if limit and not any(name in limit for name in ("DEFAULT", "BF16", "AMX", "FP16", "AVX10")):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@contextmanager
def products_of(rows: int) -> Iterator[None]:
    """For the duration of one pass over `rows` rows: a single row is multiplied by torch's own dot products.

    They read bf16 weights twice as fast as oneDNN does, and start faster. A switch of the whole process, hence set once
    for several products; it changes speed and the last bits, nothing else.
    """
    was_enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(was_enabled and rows > 1)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(was_enabled)
