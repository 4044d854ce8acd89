"""Tensors as the library's structures point to them."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from quant.kernels.native import Format, NativeProducts


class MatrixPointers(ctypes.Structure):
    """`ZayaMatrix`."""

    _fields_ = (("codes", ctypes.c_void_p), ("scales", ctypes.c_void_p))


@dataclass(frozen=True)
class NativeMatrix:
    """A matrix as the library reads it: bf16 rows (scales None), or codes and scales as in `tiles.py`."""

    format: Format
    codes: Tensor
    scales: Tensor | None


class Parameters:
    """Part of a model for the library's steps. State: keeps what its pointers point to."""

    def __init__(self, products: NativeProducts):
        self.library, self.index = products.library, products.index
        self._kept: list[Any] = []

    def keep(self, thing: Any) -> None:
        self._kept.append(thing)

    def pointer(self, tensor: Tensor | None) -> int | None:
        """The address of a tensor's numbers, row by row; None for None."""
        if tensor is None:
            return None
        tensor = tensor.contiguous()
        self.keep(tensor)
        return tensor.data_ptr()

    def matrix(self, matrix: NativeMatrix) -> MatrixPointers:
        return MatrixPointers(self.pointer(matrix.codes), self.pointer(matrix.scales))
