"""Compare a quantized folder with its source, matrix by matrix, on a sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from quant.assemble import packed_matrix
from quant.formats import Format
from zaya_core.checkpoint import Checkpoint, open_checkpoint
from zaya_core.config import read_config
from zaya_core.errors import CheckpointError

# Far above what rounding costs even heavy-tailed matrices: beyond these the folder is not one of this source.
_LARGEST_ERROR: dict[Format, float] = {"int8": 0.05, "int4": 0.3, "nf4": 0.3}
_EXPERTS = 2
_ROWS = 4096


@dataclass(frozen=True)
class MatrixError:
    """How far one matrix is from its source: |Q - W| / |W| in the Euclidean norm, and the largest single difference."""

    name: str
    kind: Format
    relative: float
    largest: float
    largest_weight: float


def verify(source: Path, quantized: Path) -> Iterator[MatrixError]:
    """Errors of some matrices of the first, middle and last layer and of embedding and head.

    Raises the errors of either folder; CheckpointError where a matrix is further off than rounding explains.
    """
    before = open_checkpoint(source, read_config(source))
    config = read_config(quantized)
    after = open_checkpoint(quantized, config)
    last = config.num_hidden_layers - 1
    layers = {f"model.layers.{layer}." for layer in (0, last // 2, last)}
    for name in after.packed:
        if name.startswith(tuple(layers)) or not name.startswith("model.layers."):
            yield from _compare(name, before, after)


def _compare(name: str, before: Checkpoint, after: Checkpoint) -> Iterator[MatrixError]:
    packed, tensors = after.packed[name], after.packed_tensors(name)
    *_, n, k = packed.shape
    if len(packed.shape) == 2:
        matrix = packed_matrix(packed.kind, tensors, (n, k))
        yield _error(name, packed.kind, before.tensor(name)[:_ROWS], matrix.rows(torch.arange(min(n, _ROWS))))
        return
    for expert in sorted({0, packed.shape[0] - 1})[:_EXPERTS]:
        matrix = packed_matrix(packed.kind, {suffix: one[expert] for suffix, one in tensors.items()}, (n, k))
        yield _error(f"{name}[{expert}]", packed.kind, before.experts(name)[expert], matrix.dequantize())


def _error(name: str, kind: Format, weight: Tensor, quantized: Tensor) -> MatrixError:
    exact = weight.float()
    difference = quantized - exact
    relative = float(difference.norm() / exact.norm().clamp_min(1e-30))
    if not relative <= _LARGEST_ERROR[kind]:
        raise CheckpointError(
            f"{name} differs from its source by {relative:.1%}, more than rounding to {kind} explains: the folder was "
            "made from another model or is damaged; delete it and quantize again."
        )
    return MatrixError(name, kind, relative, float(difference.abs().max()), float(exact.abs().max()))
