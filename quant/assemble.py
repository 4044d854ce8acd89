"""From a format's name to its matrices: made from stored tensors, or rounded from float weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from quant.compensation import InputStatistics
from quant.compressed import FP8Matrix, MXFP4Matrix
from quant.formats import Format
from quant.int4 import Int4Matrix, Int4Stack, quantize_int4
from quant.int8 import Int8Matrix, quantize_int8
from quant.matrix import Stack
from quant.nf4 import NF4Matrix, bitsandbytes, quantize_nf4
from quant.packed import PackedMatrix

_MATRICES: dict[Format, type[PackedMatrix]] = {
    matrix.kind: matrix for matrix in (Int8Matrix, Int4Matrix, NF4Matrix, FP8Matrix, MXFP4Matrix)
}


def expect_usable(kind: Format) -> None:
    """Raises MissingLibraryError where a format's library is not installed."""
    if kind == "nf4":
        bitsandbytes()


def packed_matrix(
    kind: Format, tensors: Mapping[str, Tensor], shape: tuple[int, int], bias: Tensor | None = None
) -> PackedMatrix:
    """A matrix (N, K) on its stored tensors."""
    return _MATRICES[kind](tensors, shape, bias)


def packed_stack(kind: Format, experts: Sequence[Mapping[str, Tensor]], shape: tuple[int, int]) -> Stack[PackedMatrix]:
    """A stack of matrices (N, K), each on its stored tensors."""
    if kind == "int4":
        return Int4Stack([Int4Matrix(tensors, shape) for tensors in experts])  # type: ignore[return-value]
    return Stack([packed_matrix(kind, tensors, shape) for tensors in experts])


def quantize_matrix(kind: Format, weight: Tensor, inputs: InputStatistics | None = None) -> dict[str, Tensor]:
    """weight: (N, K) -> the tensors of a packed matrix.

    inputs: of typical inputs, with which int4 compensates its errors; the other formats have no use for them. Raises
    ValueError for weights that the format cannot hold; MissingLibraryError.
    """
    if kind == "int4":
        compensation = None if inputs is None else inputs.compensation()
        return quantize_int4(weight) if compensation is None else quantize_int4(weight, compensation.round)
    if kind == "int8":
        return quantize_int8(weight)
    if kind == "nf4":
        return quantize_nf4(weight)
    raise ValueError(f"{kind} is only read")
