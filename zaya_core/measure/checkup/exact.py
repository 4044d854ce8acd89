"""The float32 reference of a model folder, computed on the CPU from the stored weights with no copy of them.

One matrix is in float32 at a time, so that a model of any size has room for it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.matrix import Matrix, Stack
from zaya_core.checkpoint.checkpoint import Checkpoint
from zaya_core.config.model_config import ModelConfig
from zaya_core.kernels.reference import ReferenceSteps
from zaya_core.load import ModelParts, assemble
from zaya_core.machine.device import Placement
from zaya_core.model.model import ZayaModel
from zaya_core.sampling.reference import ReferenceSampling

_CPU = torch.device("cpu")
_MOST_ROWS = 16_384  # of a matrix in float32 at a time: 134 MB with ZAYA's width


class ExactMatrix:
    """A matrix whose products are those of its weights in float32, whatever they are stored in. See `Matrix`."""

    def __init__(self, matrix: Matrix):
        self._matrix = matrix
        self.bias, self.shape, self.nbytes = matrix.bias, matrix.shape, matrix.nbytes

    def matmul(self, x: Tensor) -> Tensor:
        """x: (..., K) float32 -> (..., N) float32."""
        n = self.shape[0]
        if n <= _MOST_ROWS:
            parts = [F.linear(x, self._matrix.dequantize())]
        else:
            slices = (torch.arange(start, min(start + _MOST_ROWS, n)) for start in range(0, n, _MOST_ROWS))
            parts = [F.linear(x, self._matrix.rows(rows).float()) for rows in slices]
        y = torch.cat(parts, dim=-1)
        return y if self.bias is None else y + self.bias

    def matmul_float32(self, x: Tensor) -> Tensor:
        """The same."""
        return self.matmul(x)

    def rows(self, index: Tensor) -> Tensor:
        """See `Matrix`."""
        return self._matrix.rows(index).float()

    def dequantize(self) -> Tensor:
        """See `Matrix`."""
        return self._matrix.dequantize()

    def with_bias(self, bias: Tensor | None) -> ExactMatrix:
        """See `Matrix`."""
        return ExactMatrix(self._matrix.with_bias(bias))


class ExactParts(ModelParts):
    """Parts whose activations, keys and values are float32 and whose matrices stay as they are stored."""

    def __init__(self, config: ModelConfig, checkpoint: Checkpoint):
        super().__init__(config, checkpoint, Placement(_CPU, torch.float32, "the reference"))
        self._weight_dtype = None

    def matrix(self, name: str) -> Matrix:
        """See `ModelParts`."""
        return ExactMatrix(super().matrix(name))

    def stack(self, name: str, device: torch.device | None = None) -> Stack[Any]:
        """See `ModelParts`."""
        return Stack([ExactMatrix(one) for one in super().stack(name, device).matrices])


def exact_model(config: ModelConfig, checkpoint: Checkpoint) -> ZayaModel:
    """The reference of the folder's model. Raises CheckpointError as `ModelParts` does."""
    parts = ExactParts(config, checkpoint)
    return assemble(parts, ReferenceSteps(parts, ReferenceSampling(), "reference", "float32"), "the reference")
