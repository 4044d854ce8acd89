"""The two ends of the model by the native library (`abi.h`): ids to residual stream, and that to logits."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from quant.kernels.native import FORMATS, NativeProducts
from quant.kernels.parameters import NativeMatrix, Parameters
from quant.kernels.pointers import address, fresh, rows_of
from quant.matrix import no_row
from zaya_core.kernels import abi

_INT64, _POINTER = ctypes.c_int64, ctypes.c_void_p


class NativeEmbedding(Parameters):
    """(row + bias) * scale. matrix: (V, D), D a multiple of 64, in bf16 any; bias, scale: (D) float32."""

    def __init__(self, products: NativeProducts, matrix: NativeMatrix, vocabulary: int, bias: Tensor, scale: Tensor):
        super().__init__(products)
        self.library = abi.steps_of(products)
        self.hidden = len(scale)
        of_matrix = self.matrix(matrix, vocabulary, self.hidden)
        vectors = self.pointer(bias, "bias", self.hidden), self.pointer(scale, "scale", self.hidden)
        self._embedding = abi.Embedding(FORMATS.index(matrix.format), self.hidden, vocabulary, of_matrix, *vectors)
        self._pointer = ctypes.byref(self._embedding)
        self.address = ctypes.addressof(self._embedding)

    def __call__(self, ids: Tensor) -> Tensor:
        """ids (...) int64 -> (..., D) float32. Raises IndexError for an id that is no row."""
        ids = rows_of(ids, "ids")
        residual, to = fresh(*ids.shape, self.hidden)
        of_ids = _POINTER(address(ids, "ids", ids.shape, torch.int64))
        if not self.library.zaya_embed(
            self._pointer, torch.get_num_threads(), _INT64(ids.numel()), of_ids, _POINTER(to)
        ):
            raise self.no_row(ids)
        return residual

    def no_row(self, ids: Tensor) -> IndexError:
        """What is wrong with ids of which some are no row."""
        return no_row(ids, self._embedding.vocabulary)


class NativeHead(Parameters):
    """Norm, rounding to the model's dtype, product and bias.

    matrix: (V, D), D a multiple of 64, in bf16 of 32; norm: (D), bias: (V) float32.
    """

    def __init__(
        self, products: NativeProducts, matrix: NativeMatrix, vocabulary: int, bias: Tensor | None,
        norm: Tensor, rms_norm_eps: float, dtype: torch.dtype,
    ):  # fmt: skip
        super().__init__(products)
        self.library = abi.steps_of(products)
        self.vocabulary, self.hidden = vocabulary, len(norm)
        self._head = abi.Head(
            FORMATS.index(matrix.format), dtype == torch.bfloat16, self.hidden, vocabulary, rms_norm_eps,
            self.pointer(norm, "norm", self.hidden), self.matrix(matrix, vocabulary, self.hidden),
            self.pointer(None if bias is None else bias.float(), "bias", vocabulary),
        )  # fmt: skip
        self._pointer = ctypes.byref(self._head)
        self.address = ctypes.addressof(self._head)

    def __call__(self, residual: Tensor) -> Tensor:
        """residual: (..., D) float32 -> logits (..., V) float32."""
        residual = rows_of(residual, "residual")
        before = residual.shape[:-1]
        logits, to = fresh(*before, self.vocabulary)
        of_residual = _POINTER(address(residual, "residual", (*before, self.hidden), torch.float32))
        rows = _INT64(residual.numel() // self.hidden)
        self.library.zaya_logits(self.index, self._pointer, torch.get_num_threads(), rows, of_residual, _POINTER(to))
        return logits
