"""What all packed matrices have in common: their tensors by suffix, and products through float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, TypeVar

from torch import Tensor

from quant.formats import Format
from quant.matrix import multiply_by_slices

P = TypeVar("P", bound="PackedMatrix")


class PackedMatrix(ABC):
    """An (N, K) matrix as codes and scales, with an optional bias (N), read where they lie.

    `tensors`: by suffix, with the shapes and dtypes of `formats.stored_tensors`. Products accumulate in float32.
    """

    kind: ClassVar[Format]

    def __init__(self, tensors: Mapping[str, Tensor], shape: tuple[int, int], bias: Tensor | None = None):
        self.tensors = dict(tensors)
        self.codes, self.scales = self.tensors["codes"], self.tensors["scales"]
        self._shape = shape
        self.bias = bias

    @property
    def shape(self) -> tuple[int, int]:
        """N, K."""
        return self._shape

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def matmul(self, x: Tensor) -> Tensor:
        """x: (..., K) -> (..., N) in the dtype of x."""
        return self.matmul_float32(x).to(x.dtype)

    def matmul_float32(self, x: Tensor) -> Tensor:
        """x: (..., K) -> (..., N) float32, never rounded on the way."""
        y = self._multiply(x.reshape(-1, x.shape[-1]))
        y = y if self.bias is None else y.add_(self.bias)
        return y.view(*x.shape[:-1], -1)

    def rows(self, index: Tensor) -> Tensor:
        """The rows `index` (any shape) as an embedding -> (*index.shape, K) float32."""
        return self._gather(index.flatten()).view(*index.shape, -1)

    def dequantize(self) -> Tensor:
        """The weights that are multiplied by: (N, K) float32."""
        return self._to_float32(0, self.shape[0])

    def with_bias(self: P, bias: Tensor | None) -> P:
        """The same weights, not copied, with another bias."""
        return type(self)(self.tensors, self.shape, bias)

    def _multiply(self, x: Tensor) -> Tensor:
        """x: (M, K) -> (M, N) float32."""
        return multiply_by_slices(x.float(), self._to_float32, self.shape[0])

    @abstractmethod
    def _gather(self, index: Tensor) -> Tensor:
        """index: (n) -> (n, K) float32."""

    @abstractmethod
    def _to_float32(self, start: int, stop: int) -> Tensor:
        """Rows start..stop-1, start a multiple of 16 -> (stop - start, K) float32."""
