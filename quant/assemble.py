"""From a format's name to its matrices: made from stored tensors, or rounded from float weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from quant.compensation import InputStatistics
from quant.dense import DenseMatrix
from quant.formats import FORMATS, TILE, Format, imported
from quant.matrix import Matrix, Stack
from quant.packed import PackedMatrix


def expect_usable(kind: Format) -> None:
    """Raises MissingLibraryError where a format's library is not installed."""
    if (library := FORMATS[kind].library) is not None:
        imported(library)()


def packed_matrix(
    kind: Format, tensors: Mapping[str, Tensor], shape: tuple[int, int], bias: Tensor | None = None
) -> PackedMatrix:
    """A matrix (N, K) on its stored tensors."""
    matrix: type[PackedMatrix] = imported(FORMATS[kind].matrix)
    return matrix(tensors, shape, bias)


def packed_stack(kind: Format, experts: Sequence[Mapping[str, Tensor]], shape: tuple[int, int]) -> Stack[PackedMatrix]:
    """A stack of matrices (N, K), each on its stored tensors."""
    stack: type[Stack[PackedMatrix]] = imported(FORMATS[kind].stack)
    return stack([packed_matrix(kind, tensors, shape) for tensors in experts])


def joined(matrices: Sequence[Matrix]) -> Matrix | None:
    """One matrix with a copy of the rows of several; None where they are of several formats or end within a tile."""
    if len({(type(one), one.bias is None) for one in matrices}) > 1 or any(one.shape[0] % TILE for one in matrices):
        return None
    biases = [one.bias for one in matrices if one.bias is not None]
    bias = torch.cat(biases) if biases else None
    if dense := [one.weight for one in matrices if isinstance(one, DenseMatrix)]:
        return DenseMatrix(torch.cat(dense), bias) if len({weight.dtype for weight in dense}) == 1 else None
    packed = [one for one in matrices if isinstance(one, PackedMatrix)]
    tensors = {suffix: torch.cat([one.tensors[suffix] for one in packed]) for suffix in packed[0].tensors}
    return packed_matrix(packed[0].kind, tensors, (sum(one.shape[0] for one in packed), packed[0].shape[1]), bias)


def quantize_matrix(kind: Format, weight: Tensor, inputs: InputStatistics | None = None) -> dict[str, Tensor]:
    """weight: (N, K) -> the tensors of a packed matrix.

    inputs: of typical inputs, for formats that are fitted to them; the others have no use for them. Raises ValueError
    for weights that the format cannot hold; MissingLibraryError.
    """
    format = FORMATS[kind]
    if format.quantizer is None:
        raise ValueError(f"{kind} is only read")
    quantizer = imported(format.quantizer)
    tensors: dict[str, Tensor] = quantizer(weight, inputs) if format.is_fitted else quantizer(weight)
    return tensors
