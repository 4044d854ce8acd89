"""What a weight matrix and a stack of them offer, whatever they are stored as."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

_SLICE_BYTES = 4 << 20  # a float32 slice that stays in the second-level caches of two cores


class Matrix(Protocol):
    """An (N, K) matrix with an optional bias (N)."""

    bias: Tensor | None

    @property
    def shape(self) -> tuple[int, int]:
        """N, K."""

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""

    def matmul(self, x: Tensor) -> Tensor:
        """x: (..., K) -> (..., N) in the dtype of x."""

    def matmul_float32(self, x: Tensor) -> Tensor:
        """x: (..., K) -> (..., N) float32, never rounded on the way."""

    def rows(self, index: Tensor) -> Tensor:
        """The rows `index` (any shape) as an embedding -> (*index.shape, K)."""

    def dequantize(self) -> Tensor:
        """The weights that are multiplied by: (N, K) float32."""

    def with_bias(self, bias: Tensor | None) -> Matrix:
        """The same weights, not copied, with another bias."""


M = TypeVar("M", bound=Matrix)


class Stack(Generic[M]):
    """E matrices (N, K) at E base addresses: the slices of one tensor, or tensors that lie apart."""

    def __init__(self, matrices: Sequence[M]):
        self.matrices = list(matrices)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(matrix.nbytes for matrix in self.matrices)

    def matmul_experts(self, x: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        """Multiply consecutive rows by consecutive experts.

        x: (N_rows, K), sorted by expert; groups: (expert, number of rows), in the order of the rows -> (N_rows, N).
        Example: groups [(2, 3), (5, 1)] multiplies rows 0..2 by expert 2 and row 3 by expert 5.
        """
        if len(groups) == 1:
            return self.matrices[groups[0][0]].matmul(x)
        parts = x.split([count for _, count in groups])
        return torch.cat([self.matrices[e].matmul(part) for (e, _), part in zip(groups, parts, strict=True)])

    def dequantize(self) -> Tensor:
        """The weights that are multiplied by: (E, N, K) float32."""
        return torch.stack([matrix.dequantize() for matrix in self.matrices])


def multiply_by_slices(x: Tensor, rows_of: Callable[[int, int], Tensor], n: int) -> Tensor:
    """x: (M, K) float32 -> (M, N) float32, with only some rows of the weights in float32 at a time.

    rows_of: (start, stop) -> those rows of the weights, (stop - start, K) float32. Slices start at multiples of 16.
    """
    step = rows_of_slice(x.shape[1])
    out = torch.empty(n, len(x), device=x.device)
    columns = x.t()
    for start in range(0, n, step):
        stop = min(start + step, n)
        torch.mm(rows_of(start, stop), columns, out=out[start:stop])
    return out.t().contiguous()


def rows_of_slice(k: int) -> int:
    """Rows of a slice of K columns, a multiple of 16."""
    return max(16, _SLICE_BYTES // (4 * k) // 16 * 16)
