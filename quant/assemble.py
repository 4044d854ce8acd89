"""From a format's name to its matrices: made from stored tensors, or rounded from float weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from quant.compensation import InputStatistics
from quant.formats import FORMATS, Format, imported
from quant.matrix import Stack
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
