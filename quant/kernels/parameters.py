"""Tensors as the library's structures point to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quant.kernels import abi
from quant.kernels.native import NativeProducts
from quant.kernels.pointers import Format, address, matrix_addresses
from quant.large_pages import share_large_pages


@dataclass(frozen=True)
class NativeMatrix:
    """A matrix as the library reads it: bf16 rows (scales None), or codes and scales as in `tiles.py`."""

    format: Format
    codes: Tensor
    scales: Tensor | None


class Parameters:
    """Tensors that the library computes with for long. State: keeps what its pointers point to."""

    def __init__(self, products: NativeProducts):
        self.library, self.index = products.library, products.index
        self._kept: list[Any] = []

    def keep(self, thing: Any) -> None:
        self._kept.append(thing)

    def pointer(self, tensor: Tensor | None, name: str, *shape: int) -> int | None:
        """The address of a float32 tensor's numbers, row by row; None for None. Raises ValueError for another shape."""
        if tensor is None:
            return None
        tensor = share_large_pages(tensor.contiguous())
        self.keep(tensor)
        return address(tensor, name, shape, torch.float32)

    def matrix(self, matrix: NativeMatrix, n: int, k: int) -> abi.Matrix:
        """Of a matrix that must be (n, k). Raises ValueError where it is not."""
        self.keep(matrix)
        return abi.Matrix(*matrix_addresses(matrix.format, matrix.codes, matrix.scales, n, k))
