"""What kernels rely on, checked before they are launched: a wrong argument never reaches one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quant.kernels.pointers import described

FLOATS = (torch.float32, torch.bfloat16)
FLOAT32 = (torch.float32,)
INT32 = (torch.int32,)

Wanted = tuple[Tensor, Sequence[int], Sequence[torch.dtype]]


def expect_tensors(device: torch.device, **wanted: Wanted) -> None:
    """By name a tensor, its shape, and dtypes of which it has one.

    Raises ValueError for one that has not, is not contiguous, or is on another device.
    """
    for name, (tensor, shape, dtypes) in wanted.items():
        is_tensor = isinstance(tensor, Tensor) and tensor.layout is torch.strided and tensor.device == device
        if not (is_tensor and tensor.shape == tuple(shape) and tensor.dtype in dtypes and tensor.is_contiguous()):
            kinds = " or ".join(str(one).removeprefix("torch.") for one in dtypes)
            raise ValueError(
                f"{name} must be {tuple(shape)} {kinds}, contiguous, on {device}; it is {described(tensor)}"
            )


def expect_power_of_two(name: str, number: int) -> None:
    """Raises ValueError unless it is one."""
    if number < 1 or number & (number - 1):
        raise ValueError(f"{name} must be a power of two; it is {number}")
