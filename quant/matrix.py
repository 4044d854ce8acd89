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
        """x: (..., K) -> (..., N) in the dtype of x. Raises ValueError for x of another width, dtype or device."""

    def matmul_float32(self, x: Tensor) -> Tensor:
        """x: (..., K) -> (..., N) float32, never rounded on the way."""

    def rows(self, index: Tensor) -> Tensor:
        """The rows `index` (any shape) as an embedding -> (*index.shape, K). Raises IndexError, ValueError."""

    def dequantize(self) -> Tensor:
        """The weights that are multiplied by: (N, K) float32."""

    def with_bias(self, bias: Tensor | None) -> Matrix:
        """The same weights, not copied, with another bias."""


M = TypeVar("M", bound=Matrix)


class Stack(Generic[M]):
    """E matrices (N, K) at E base addresses: the slices of one tensor, or tensors that lie apart."""

    def __init__(self, matrices: Sequence[M]):
        self.matrices = list(matrices)
        if len(shapes := {matrix.shape for matrix in self.matrices}) != 1:
            raise ValueError(f"a stack needs matrices of one shape; these have {sorted(shapes)}")

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(matrix.nbytes for matrix in self.matrices)

    def matmul_experts(self, x: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        """Multiply consecutive rows by consecutive experts.

        x: (N_rows, K), sorted by expert; groups: (expert, number of rows), in the order of the rows -> (N_rows, N).
        Example: groups [(2, 3), (5, 1)] multiplies rows 0..2 by expert 2 and row 3 by expert 5.
        Raises ValueError for x of another form, or groups that are not its rows and these experts.
        """
        self._expect_groups(x, groups)
        return self._multiply_experts(x, groups)

    def _expect_groups(self, x: Tensor, groups: Sequence[tuple[int, int]]) -> None:
        k = self.matrices[0].shape[1]
        if not isinstance(x, Tensor) or x.layout != torch.strided or x.dim() != 2 or x.shape[1] != k:
            raise ValueError(f"x must be (rows, {k}); it is {getattr(x, 'shape', x)}")
        if not groups or any(not 0 <= expert < len(self.matrices) or count < 0 for expert, count in groups):
            raise ValueError(f"groups must name experts 0 to {len(self.matrices) - 1} and rows; they are {groups}")
        if (rows := sum(count for _, count in groups)) != len(x):
            raise ValueError(f"groups must have the {len(x)} rows of x; they have {rows}")

    def _multiply_experts(self, x: Tensor, groups: Sequence[tuple[int, int]]) -> Tensor:
        if len(groups) == 1:
            return self.matrices[groups[0][0]].matmul(x)
        parts = x.split([count for _, count in groups])
        return torch.cat([self.matrices[e].matmul(part) for (e, _), part in zip(groups, parts, strict=True)])

    def dequantize(self) -> Tensor:
        """The weights that are multiplied by: (E, N, K) float32."""
        return torch.stack([matrix.dequantize() for matrix in self.matrices])


def expect_columns(x: Tensor, k: int, dtypes: Sequence[torch.dtype], device: torch.device) -> None:
    """Raises ValueError for an input of a product that is not (..., K) of one of the dtypes, where the weights are."""
    is_rows = isinstance(x, Tensor) and x.layout == torch.strided and x.dim() > 0
    if not (is_rows and x.shape[-1] == k and x.dtype in dtypes and x.device == device):
        found = f"{tuple(x.shape)} {x.dtype} on {x.device}" if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"x must be (..., {k}), {' or '.join(map(str, dtypes))}, on {device}; it is {found}")


def expect_index(index: Tensor, count: int) -> None:
    """Raises ValueError for an index of rows that is no int64 or int32 tensor, IndexError for one that is no row."""
    if not isinstance(index, Tensor) or index.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"rows are found by a tensor of int64; this is {getattr(index, 'dtype', type(index).__name__)}"
        )
    if index.is_meta or index.layout != torch.strided:
        raise ValueError(f"rows cannot be found by an index that is {index.layout} on {index.device}")
    if index.numel() and not bool(((index >= 0) & (index < count)).all()):
        raise no_row(index, count)


def no_row(ids: Tensor, count: int) -> IndexError:
    """What is wrong with ids of which some are no row of a matrix with so many."""
    lowest, highest = map(int, ids.aminmax())
    return IndexError(f"ids are from {lowest} to {highest}; the vocabulary has 0 to {count - 1}")


def multiply_by_slices(x: Tensor, rows_of: Callable[[int, int, torch.dtype], Tensor], n: int) -> Tensor:
    """x: (M, K) float32 -> (M, N) float32, with only some rows of the weights in float32 at a time.

    rows_of: (start, stop, float32) -> those rows of the weights, (stop - start, K). Slices start at multiples of 16.
    """
    step = rows_of_slice(x.shape[1])
    out = torch.empty(n, len(x), device=x.device)
    columns = x.t()
    for start in range(0, n, step):
        stop = min(start + step, n)
        torch.mm(rows_of(start, stop, torch.float32), columns, out=out[start:stop])
    return out.t().contiguous()


def rows_of_slice(k: int) -> int:
    """Rows of a slice of K columns, a multiple of 16."""
    return max(16, _SLICE_BYTES // (4 * k) // 16 * 16)
