"""The front door of products: arguments are checked, and the number of rows chooses the kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quant.kernels.pointers import described
from quant.kernels.triton.few_rows import MOST_ROWS, down_of_few, gate_up_of_few, product_of_few
from quant.kernels.triton.gemv import down_of_row, gate_up_of_row, product_of_row
from quant.kernels.triton.grouped import (
    SortedRows,
    down_of_many,
    gate_up_of_many,
    product_of_many,
    sorted_by_expert,
)
from quant.kernels.triton.launch import Launch
from quant.kernels.triton.weights import CardMatrix, CardStack


def product(x: Tensor, matrix: CardMatrix, out: Tensor) -> Launch:
    """x: (M, K) float32, from 17 rows on also bfloat16 -> out: (M, N) float32, bias included.

    out: its rows may lie apart, as the columns of a wider tensor do. Raises ValueError for tensors of another form or
    place, and for more than 16 rows by floats, which torch multiplies.
    """
    n, k = matrix.shape
    _expect_input(x, k, matrix.codes.device)
    _expect("out", out, (len(x), n), (torch.float32,), x.device, is_contiguous=False)
    if len(x) == 1:
        return product_of_row(x, matrix, out)
    if len(x) <= MOST_ROWS:
        return product_of_few(x, matrix, out)
    if matrix.format == "float":
        raise ValueError(f"torch multiplies {len(x)} rows by floats; kernels take up to {MOST_ROWS}")
    return product_of_many(x, matrix, out)


def gate_up(x: Tensor, choice: Tensor, stack: CardStack, out: Tensor, rows: SortedRows | None = None) -> Launch:
    """x: (M, K), choice: (M) int32, stack: (E, N, K) -> out: (M, N / 2), silu(gate) * up of each row's expert.

    x, out: float32, or from 17 rows on also bfloat16. Gates are the first half of N. Where `choice` is E, a row skips,
    and its part of `out` stays as it is. rows: the choice as `sorted_by_expert` sorts it, for more than 16 rows; sorted
    here where it is None. Raises ValueError.
    """
    n, k = stack.shape
    expect_pairs(stack)
    _expect_rows(x, choice, k, stack)
    _expect("out", out, (len(x), n // 2), _floats(len(x)), x.device)
    if len(x) == 1:
        return gate_up_of_row(x, choice, stack, out)
    if len(x) <= MOST_ROWS:
        return gate_up_of_few(x, choice, stack, out)
    return gate_up_of_many(x, _sorted(rows, choice, stack), stack, out)


def down(
    x: Tensor,
    choice: Tensor,
    weight: Tensor,
    stack: CardStack,
    out: Tensor,
    kept: Tensor | None = None,
    rows: SortedRows | None = None,
) -> Launch:
    """x: (M, K), choice: (M) int32, weight: (M) float32, stack: (E, N, K) -> out: (M, N) float32, times weight.

    Where `choice` is E, a row skips: its x is not read, and up to 16 rows it gets kept (M, N) times weight, or zeros.
    With more, its part of `out` stays as it is. rows: as `gate_up` has it. Raises ValueError.
    """
    n, k = stack.shape
    _expect_rows(x, choice, k, stack)
    _expect("weight", weight, (len(x),), (torch.float32,), x.device)
    _expect("out", out, (len(x), n), (torch.float32,), x.device)
    if kept is not None:
        _expect("kept", kept, (len(x), n), (torch.float32,), x.device)
    if len(x) == 1:
        return down_of_row(x, choice, weight, stack, out, kept)
    if len(x) <= MOST_ROWS:
        return down_of_few(x, choice, weight, stack, out, kept)
    if kept is not None:
        raise ValueError(f"rows that skip are filled in by who asks for more than {MOST_ROWS}; there are {len(x)}")
    return down_of_many(x, _sorted(rows, choice, stack), weight, stack, out)


def expect_pairs(stack: CardStack) -> None:
    """Raises ValueError unless half of the rows can be gates."""
    n, _ = stack.shape
    if n % 2 or (stack.bits < 16 and n % 32):
        raise ValueError(f"gates are whole tiles and half of the rows; there are {n} rows")


def _sorted(rows: SortedRows | None, choice: Tensor, stack: CardStack) -> SortedRows:
    experts = len(stack.matrices)
    if rows is None:
        return sorted_by_expert(choice, experts)
    _expect("order", rows.order, (len(choice),), (torch.int32,), choice.device)
    _expect("offsets", rows.offsets, (experts + 1,), (torch.int32,), choice.device)
    return rows


def _expect_rows(x: Tensor, choice: Tensor, k: int, stack: CardStack) -> None:
    _expect_input(x, k, stack.codes.device)
    _expect("choice", choice, (len(x),), (torch.int32,), x.device)


def _expect_input(x: Tensor, k: int, device: torch.device) -> None:
    if x.dim() != 2 or not len(x):
        raise ValueError(f"x must be rows of {k} numbers; it is {described(x)}")
    _expect("x", x, (len(x), k), _floats(len(x)), device)


def _floats(rows: int) -> tuple[torch.dtype, ...]:
    return (torch.float32, torch.bfloat16) if rows > MOST_ROWS else (torch.float32,)


def _expect(
    name: str,
    tensor: Tensor,
    shape: Sequence[int],
    dtypes: Sequence[torch.dtype],
    device: torch.device,
    is_contiguous: bool = True,
) -> None:
    """is_contiguous: all of it, or else each row, with no number in two rows."""
    is_right = tuple(tensor.shape) == tuple(shape) and tensor.dtype in dtypes and tensor.device == device
    is_apart = is_right and tensor.stride(-1) == 1 and tensor.stride(0) >= shape[-1]
    if not (is_right and tensor.is_contiguous()) and (is_contiguous or not is_apart):
        names = " or ".join(map(str, dtypes))
        raise ValueError(f"{name} must be {tuple(shape)} {names} on {device}, side by side; it is {described(tensor)}")
