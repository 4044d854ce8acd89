"""What a whole number is, asked once: True and 2.0 are none, whoever gives them.

`is_whole` is for what JSON, TOML and command lines give; `as_whole` for what a program gives, whose numbers may be of
another library. The errors differ with who asks; `expect_whole` raises those of a call of this program's own.
"""

from __future__ import annotations

import reprlib
import sys
from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING, Any, TypeGuard

if TYPE_CHECKING:
    from torch import Tensor  # imported where it is used: settings are checked without it


_WHOLE = ("torch.int64", "torch.int32", "torch.int16", "torch.int8", "torch.uint8")


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is Python's own whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is Python's own number, whole or not."""
    return is_whole(value) or isinstance(value, float)


def as_whole(value: Any) -> int | None:
    """Python's and other libraries' whole numbers as int; None for anything else."""
    if type(value) is int:
        return value
    if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
        return None
    try:
        return index(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def without_fraction(value: Any) -> Any:
    """A number without a fraction as int, since some programs write 50 as 50.0; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def expect_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """The value as an int. Raises ValueError where it is none, or a tensor, or not from `least` to `most`."""
    number = None if _is_tensor(value) else as_whole(value)
    if number is None or number < least or (most is not None and number > most):
        allowed = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {allowed}; it is {reprlib.repr(value)}")
    return number


def expect_all_whole(name: str, values: Sequence[int] | Tensor, least: int, most: int) -> list[int]:
    """The values as ints. Raises ValueError where one is none or out of range, or a tensor has not one dimension."""
    given: Any = values
    if _is_tensor(given):
        if given.dim() != 1 or str(given.dtype) not in _WHOLE or given.is_meta:
            found = f"{tuple(given.shape)} {given.dtype} on {given.device}"
            raise ValueError(f"{name} must be a row of whole numbers; they are a tensor {found}")
        given = given.tolist()
    try:
        given = list(given)
    except TypeError:
        raise ValueError(f"{name} must be several whole numbers; they are {reprlib.repr(values)}") from None
    return [expect_whole(f"each of {name}", value, least, most) for value in given]


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")  # where it is not imported, nothing is a tensor
    return torch is not None and isinstance(value, torch.Tensor)
