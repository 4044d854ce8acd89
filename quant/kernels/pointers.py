"""Where tensors are, for native code, which believes what it is told: the only place of all kernels that asks for it.

Everything that the other side relies on is checked here, and refused before anything is read or written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from quant.formats import stored_tensors

Format = Literal["bf16", "int8", "int4"]  # of the library's matrices
_CPU = torch.device("cpu")
BF16_COLUMNS = 32  # K of a bf16 matrix is a multiple of it


def rows_of(tensor: Tensor, name: str) -> Tensor:
    """The same numbers row by row, the first step with what a caller gave. Raises ValueError where it is no tensor."""
    if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided or tensor.is_neg():
        raise ValueError(f"{name} must be a tensor with strides; it is {described(tensor)}")
    return tensor.contiguous()


def fresh(*shape: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, int]:
    """A new tensor on the CPU with any numbers in it, and where it begins."""
    tensor = torch.empty(shape, dtype=dtype, device=_CPU)  # whatever torch's defaults are
    return tensor, tensor.data_ptr()


def address(tensor: Tensor, name: str, shape: Sequence[int], *dtypes: torch.dtype) -> int:
    """Where a tensor's numbers begin, row by row. `shape`: a tuple.

    Raises ValueError unless it is a contiguous tensor on the CPU of this shape and of one of the dtypes.
    """
    if not (
        isinstance(tensor, Tensor)
        and tensor.layout is torch.strided
        and tensor.shape == shape
        and tensor.dtype in dtypes
        and tensor.is_cpu
        and tensor.is_contiguous()
    ):
        raise ValueError(f"{name} must be {_wanted(shape, dtypes)}, contiguous, on the CPU; it is {described(tensor)}")
    return tensor.data_ptr()


def device_addresses(tensors: Sequence[Tensor], name: str) -> list[int]:
    """Where tensors begin on the device that they share, for tables of addresses there.

    Raises ValueError unless all are contiguous, of one shape, dtype and device.
    """
    first = tensors[0]
    for one in tensors:
        same = one.shape == first.shape and one.dtype == first.dtype and one.device == first.device
        if not (same and strided(one, name).is_contiguous()):
            raise ValueError(f"{name} must be contiguous and alike; {described(one)} is beside {described(first)}")
    return [one.data_ptr() for one in tensors]


def strided(tensor: Tensor | None, name: str) -> Tensor:
    """The tensor. Raises ValueError where it is none, or one without strides."""
    if not isinstance(tensor, Tensor) or tensor.layout is not torch.strided:
        raise ValueError(f"{name} must be a tensor with strides; it is {described(tensor)}")
    return tensor


def pair_of(tensor: Tensor, name: str) -> tuple[int, int]:
    """The first two sizes of a tensor of three dimensions: B and T. Raises ValueError for another one."""
    shape = strided(tensor, name).shape
    if len(shape) != 3:
        raise ValueError(f"{name} must have three dimensions; it is {described(tensor)}")
    return shape[0], shape[1]


def matrix_addresses(format: Format, codes: Tensor, scales: Tensor | None, n: int, k: int) -> tuple[int, int | None]:
    """Of a matrix (n, k): of its bf16 rows and None, or of its codes and scales as in `tiles.py`. Raises ValueError."""
    if format == "bf16":
        if k % BF16_COLUMNS:
            raise ValueError(f"bf16 needs inputs in groups of {BF16_COLUMNS}; {k} is not a multiple of it")
        if scales is not None:
            raise ValueError("a bf16 matrix has no scales")
        return address(codes, "weights", (n, k), torch.bfloat16), None
    stored = stored_tensors(format, (n, k))
    if scales is None:
        raise ValueError(f"an {format} matrix needs its scales")
    of_codes, of_scales = (
        address(tensor, name, stored[name].shape, *stored[name].dtypes)
        for name, tensor in (("codes", codes), ("scales", scales))
    )
    return of_codes, of_scales


def expect_within(name: str, numbers: Iterable[int], least: int, most: int) -> None:
    """Raises ValueError for a number that is not from `least` to `most`."""
    for number in numbers:
        if not least <= number <= most:
            raise ValueError(f"{name} must be from {least} to {most}; one is {number}")


def described(thing: object) -> str:
    """What matters of a tensor, for errors."""
    if not isinstance(thing, Tensor):
        return f"of the type {type(thing).__name__}"
    strided = thing.layout == torch.strided
    how = "" if strided and thing.is_contiguous() else f", strides {thing.stride()}" if strided else f", {thing.layout}"
    return f"{tuple(thing.shape)} {_name(thing.dtype)}{how} on {thing.device}"


def _wanted(shape: Sequence[int], dtypes: Sequence[torch.dtype]) -> str:
    return f"{tuple(shape)} {' or '.join(map(_name, dtypes))}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
