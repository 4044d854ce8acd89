"""What all packed matrices have in common: their tensors by suffix, and products through float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from quant.card_products import multiply_on_card
from quant.formats import Format, stored_tensors
from quant.kernels.pointers import strided
from quant.matrix import expect_columns, expect_index, multiply_by_slices

P = TypeVar("P", bound="PackedMatrix")

INPUTS = (torch.float32, torch.bfloat16)  # dtypes that products take


class PackedMatrix(ABC):
    """An (N, K) matrix as codes and scales, with an optional bias (N), read where they lie.

    `tensors`: by suffix, contiguous, with the shapes and dtypes of `formats.stored_tensors`; ValueError for others.
    Products take float32 and bf16, and accumulate in float32.
    """

    kind: ClassVar[Format]

    def __init__(self, tensors: Mapping[str, Tensor], shape: tuple[int, int], bias: Tensor | None = None):
        self.tensors = dict(tensors)
        self._expect_stored(shape, bias)
        self.codes, self.scales = self.tensors["codes"], self.tensors["scales"]
        self._shape = shape
        self.bias = bias

    def _expect_stored(self, shape: tuple[int, int], bias: Tensor | None) -> None:
        stored = stored_tensors(self.kind, shape)
        if self.tensors.keys() != stored.keys():
            raise ValueError(f"{self.kind} is stored as {', '.join(stored)}; there are {', '.join(self.tensors)}")
        for suffix, tensor in self.tensors.items():
            one, found = stored[suffix], (tuple(strided(tensor, suffix).shape), tensor.dtype)
            if found[0] != one.shape or found[1] not in one.dtypes or not tensor.is_contiguous():
                raise ValueError(
                    f"{suffix} of {self.kind} {shape} must be {one.shape} {one.dtypes[0]}, contiguous; they are {found}"
                )
        if (
            len(devices := {tensor.device for tensor in (*self.tensors.values(), *([] if bias is None else [bias]))})
            > 1
        ):
            raise ValueError(f"a matrix must be on one device; its tensors are on {', '.join(map(str, devices))}")
        if bias is not None and tuple(bias.shape) != shape[:1]:
            raise ValueError(f"the bias of a matrix {shape} must be ({shape[0]},); it is {tuple(bias.shape)}")

    @property
    def shape(self) -> tuple[int, int]:
        """N, K."""
        return self._shape

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def matmul(self, x: Tensor) -> Tensor:
        """x: (..., K) -> (..., N) in the dtype of x. Raises ValueError for x of another width, dtype or device."""
        return self._product(x, rounds=True).to(x.dtype)

    def matmul_float32(self, x: Tensor) -> Tensor:
        """x: (..., K) -> (..., N) float32, never rounded on the way."""
        return self._product(x, rounds=False)

    def _product(self, x: Tensor, rounds: bool) -> Tensor:
        """rounds: may already be in the dtype of x."""
        n, k = self.shape
        expect_columns(x, k, INPUTS, self.codes.device)
        rows = x.reshape(-1, k)
        if x.device.type == "cpu":
            y = self._multiply(rows)
        else:
            y = self._multiply_on_card(rows, x.dtype if rounds and self.bias is None else torch.float32)
        y = y if self.bias is None else y.add_(self.bias)
        return y.view(*x.shape[:-1], n)

    def rows(self, index: Tensor) -> Tensor:
        """The rows `index` (any shape) as an embedding -> (*index.shape, K) float32. Raises IndexError, ValueError."""
        n, k = self.shape
        expect_index(index, n)
        return self._gather(index.flatten().to(self.codes.device)).view(*index.shape, k)

    def dequantize(self) -> Tensor:
        """The weights that are multiplied by: (N, K) float32."""
        return self._rows_of(0, self.shape[0], torch.float32)

    def with_bias(self: P, bias: Tensor | None) -> P:
        """The same weights, not copied, with another bias."""
        return type(self)(self.tensors, self.shape, bias)

    def _multiply(self, x: Tensor) -> Tensor:
        """x: (M, K) on a CPU -> (M, N) float32."""
        return multiply_by_slices(x.float(), self._rows_of, self.shape[0])

    def _multiply_on_card(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """x: (M, K) -> (M, N) in `dtype`, that of x or float32."""
        return multiply_on_card(x, self._rows_of, self.shape[0], dtype)

    @abstractmethod
    def _gather(self, index: Tensor) -> Tensor:
        """index: (n) -> (n, K) float32."""

    @abstractmethod
    def _rows_of(self, start: int, stop: int, dtype: torch.dtype) -> Tensor:
        """Rows start..stop-1 of the weights, start a multiple of 16 -> (stop - start, K), float32 or bf16."""
