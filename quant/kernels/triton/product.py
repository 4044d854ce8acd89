"""The front door of products: arguments are checked, and the number of rows chooses the kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from quant.kernels.pointers import described
from quant.kernels.triton.arguments import FLOAT32, FLOATS, INT32, expect_tensors
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
    _expect_columns(out, len(x), n, x.device)
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
    expect_tensors(x.device, out=(out, (len(x), n // 2), _floats(len(x))))
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
    expect_tensors(x.device, weight=(weight, (len(x),), FLOAT32), out=(out, (len(x), n), FLOAT32))
    if kept is not None:
        expect_tensors(x.device, kept=(kept, (len(x), n), FLOAT32))
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
    wanted = {"order": (rows.order, (len(choice),), INT32), "offsets": (rows.offsets, (experts + 1,), INT32)}
    expect_tensors(choice.device, **wanted)
    return rows


def _expect_rows(x: Tensor, choice: Tensor, k: int, stack: CardStack) -> None:
    _expect_input(x, k, stack.codes.device)
    expect_tensors(x.device, choice=(choice, (len(x),), INT32))


def _expect_input(x: Tensor, k: int, device: torch.device) -> None:
    if x.dim() != 2 or not len(x):
        raise ValueError(f"x must be rows of {k} numbers; it is {described(x)}")
    expect_tensors(device, x=(x, (len(x), k), _floats(len(x))))


def _floats(rows: int) -> tuple[torch.dtype, ...]:
    return FLOATS if rows > MOST_ROWS else FLOAT32


def _expect_columns(out: Tensor, rows: int, n: int, device: torch.device) -> None:
    """Of a tensor of their own, or of a wider one: each row is side by side, and no number is in two rows."""
    is_part = out.shape == (rows, n) and out.stride(1) == 1 and out.stride(0) >= n
    if not (is_part and out.dtype == torch.float32 and out.device == device):
        expect_tensors(device, out=(out, (rows, n), FLOAT32))
