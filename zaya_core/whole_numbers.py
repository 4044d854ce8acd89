"""Counts, lengths and numbers of rows that callers give: whole numbers in a range, or a ValueError that says which."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from operator import index
from typing import Any

import torch
from torch import Tensor

_WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def expect_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """The value as an int. Raises ValueError where it is none (True and 2.0 are none) or not from `least` to `most`."""
    try:
        number = None if isinstance(value, (bool, Tensor)) else index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {allowed}; it is {reprlib.repr(value)}")
    return number


def expect_all_whole(name: str, values: Sequence[int] | Tensor, least: int, most: int) -> list[int]:
    """The values as ints. Raises ValueError where one is none or out of range, or a tensor has not one dimension."""
    if isinstance(values, Tensor):
        if values.dim() != 1 or values.dtype not in _WHOLE or values.is_meta:
            found = f"{tuple(values.shape)} {values.dtype} on {values.device}"
            raise ValueError(f"{name} must be a row of whole numbers; they are a tensor {found}")
        values = values.tolist()
    try:
        given = list(values)
    except TypeError:
        raise ValueError(f"{name} must be several whole numbers; they are {reprlib.repr(values)}") from None
    return [expect_whole(f"each of {name}", value, least, most) for value in given]
