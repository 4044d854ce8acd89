"""The two ends of the model by this folder's library (`vocabulary.h`): ids to residual stream, and that to logits."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from quant.kernels.native import FORMATS, NativeProducts
from quant.kernels.parameters import MatrixPointers, NativeMatrix, Parameters

_INT32, _INT64, _FLOAT, _POINTER = ctypes.c_int32, ctypes.c_int64, ctypes.c_float, ctypes.c_void_p


class _Embedding(ctypes.Structure):
    """`ZayaEmbedding`."""

    _fields_ = (
        ("format", _INT32),
        *((name, _INT64) for name in ("hidden", "vocabulary")),
        ("matrix", MatrixPointers),
        *((name, _POINTER) for name in ("bias", "scale")),
    )


class _Head(ctypes.Structure):
    """`ZayaHead`."""

    _fields_ = (
        *((name, _INT32) for name in ("format", "rounds_to_bf16")),
        *((name, _INT64) for name in ("hidden", "vocabulary")),
        ("rms_norm_eps", _FLOAT),
        ("norm", _POINTER),
        ("matrix", MatrixPointers),
        ("bias", _POINTER),
    )


class NativeEmbedding(Parameters):
    """(row + bias) * scale. matrix: (V, D), D a multiple of 64, in bf16 any; bias, scale: (D) float32."""

    def __init__(self, products: NativeProducts, matrix: NativeMatrix, vocabulary: int, bias: Tensor, scale: Tensor):
        super().__init__(products)
        self._hidden = len(scale)
        of_matrix, vectors = self.matrix(matrix), map(self.pointer, (bias, scale))
        self._embedding = _Embedding(FORMATS.index(matrix.format), self._hidden, vocabulary, of_matrix, *vectors)
        self._pointer = ctypes.byref(self._embedding)
        self.address = ctypes.addressof(self._embedding)

    def __call__(self, ids: Tensor) -> Tensor:
        """ids (...) int64 -> (..., D) float32. Raises IndexError for an id that is no row."""
        ids = ids.long().contiguous()
        residual = torch.empty(*ids.shape, self._hidden, dtype=torch.float32)
        pointers = (_POINTER(ids.data_ptr()), _POINTER(residual.data_ptr()))
        if not self.library.zaya_embed(self._pointer, torch.get_num_threads(), _INT64(ids.numel()), *pointers):
            raise self.no_row(ids)
        return residual

    def no_row(self, ids: Tensor) -> IndexError:
        """What is wrong with ids of which some are no row."""
        lowest, highest, count = int(ids.min()), int(ids.max()), self._embedding.vocabulary
        return IndexError(f"ids are from {lowest} to {highest}; the vocabulary has 0 to {count - 1}")


class NativeHead(Parameters):
    """Norm, rounding to the model's dtype, product and bias.

    matrix: (V, D), D a multiple of 64, in bf16 of 32; norm: (D), bias: (V) float32.
    """

    def __init__(
        self, products: NativeProducts, matrix: NativeMatrix, vocabulary: int, bias: Tensor | None,
        norm: Tensor, rms_norm_eps: float, dtype: torch.dtype,
    ):  # fmt: skip
        super().__init__(products)
        self.vocabulary = vocabulary
        self._head = _Head(
            FORMATS.index(matrix.format), dtype == torch.bfloat16, len(norm), vocabulary, rms_norm_eps,
            self.pointer(norm), self.matrix(matrix), self.pointer(None if bias is None else bias.float()),
        )  # fmt: skip
        self._pointer = ctypes.byref(self._head)
        self.address = ctypes.addressof(self._head)

    def __call__(self, residual: Tensor) -> Tensor:
        """residual: (..., D) float32 -> logits (..., V) float32."""
        residual = residual.contiguous()
        logits = torch.empty(*residual.shape[:-1], self.vocabulary, dtype=torch.float32)
        rows = _INT64(residual.numel() // self._head.hidden)
        pointers = (_POINTER(residual.data_ptr()), _POINTER(logits.data_ptr()))
        self.library.zaya_logits(self.index, self._pointer, torch.get_num_threads(), rows, *pointers)
        return logits
