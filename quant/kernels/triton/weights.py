"""Matrices as kernels for cards take them: plain tensors, and tables of where the tensors of a stack begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from quant.formats import stored_tensors
from quant.kernels.pointers import device_addresses
from quant.kernels.triton.arguments import expect_tensors

Format = Literal["float", "int8", "int4"]
_ALIGNMENT = 16  # bytes: what a thread of a card loads at once


@dataclass(frozen=True)
class CardMatrix:
    """An (N, K) matrix and its bias, on one device. Made by `card_matrix`, which checks it.

    codes: rows (N, K) float32 or bfloat16, or tiles as in `quant/tiles.py`. scales: of the tiles. bias: (N) float32.
    """

    format: Format
    codes: Tensor
    scales: Tensor | None
    shape: tuple[int, int]
    bias: Tensor | None = None

    @property
    def bits(self) -> int:
        """Of a code, by which kernels know formats apart: 4, 8, 16 (bfloat16) or 32 (float32)."""
        return _bits(self.format, self.codes)

    @property
    def words(self) -> Tensor:
        """The codes as kernels load them: tiles as int32 of four or eight codes."""
        return self.codes if self.format == "float" else self.codes.flatten().view(torch.int32)


@dataclass(frozen=True)
class CardStack:
    """E matrices (N, K) of one format on one device, which need not lie side by side. Made by `card_stack`.

    codes, scales: (E) int64, where each matrix's begin; scales of floats are those of codes, and not read. matrices:
    keeps the tensors.
    """

    matrices: tuple[CardMatrix, ...]
    codes: Tensor
    scales: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """N, K."""
        return self.matrices[0].shape

    @property
    def bits(self) -> int:
        """Of a code: 4, 8, 16 or 32."""
        return self.matrices[0].bits


def card_matrix(
    format: Format, codes: Tensor, scales: Tensor | None, shape: tuple[int, int], bias: Tensor | None = None
) -> CardMatrix:
    """Raises ValueError unless the tensors are those of such a matrix, contiguous and on one device."""
    if format not in get_args(Format):
        raise ValueError(f"cards multiply {', '.join(get_args(Format))}; this is {format}")
    tensors = {"codes": codes} | ({} if scales is None else {"scales": scales})
    wanted: dict[str, tuple[tuple[int, ...], tuple[torch.dtype, ...]]] = {
        "codes": (shape, (torch.float32, torch.bfloat16))
    }
    if format != "float":
        wanted = {suffix: (one.shape, one.dtypes) for suffix, one in stored_tensors(format, shape).items()}
    if tensors.keys() != wanted.keys():
        raise ValueError(f"{format} is stored as {', '.join(wanted)}; there are {', '.join(tensors)}")
    if bias is not None:
        tensors["bias"], wanted["bias"] = bias, (shape[:1], (torch.float32,))
    for name, tensor in tensors.items():
        _expect(name, tensor, *wanted[name], codes.device)
    return CardMatrix(format, codes, scales, shape, bias)


def card_stack(matrices: Sequence[CardMatrix]) -> CardStack:
    """Raises ValueError unless the matrices are of one shape, format and device, and without bias."""
    if not matrices or any(one.bias is not None for one in matrices):
        raise ValueError(f"a stack has matrices without bias; these are {len(matrices)}")
    kinds = {(one.format, one.shape) for one in matrices}
    if len(kinds) > 1:
        raise ValueError(f"a stack needs matrices of one shape and format; these are {sorted(kinds)}")
    device = matrices[0].codes.device
    codes = device_addresses([one.codes for one in matrices], "codes")
    scales = device_addresses([one.codes if one.scales is None else one.scales for one in matrices], "scales")
    tables = (torch.tensor(addresses, dtype=torch.int64, device=device) for addresses in (codes, scales))
    return CardStack(tuple(matrices), *tables)


def _bits(format: Format, codes: Tensor) -> int:
    return {"int4": 4, "int8": 8, "float": codes.dtype.itemsize * 8}[format]


def _expect(
    name: str, tensor: Tensor, shape: Sequence[int], dtypes: Sequence[torch.dtype], device: torch.device
) -> None:
    expect_tensors(device, **{name: (tensor, shape, dtypes)})
    (begin,) = device_addresses([tensor], name)
    if device.type != "cpu" and begin % _ALIGNMENT:
        raise ValueError(f"{name} must begin at a multiple of {_ALIGNMENT} bytes on {device}; copy it there")
