"""Products of 2 to 16 rows by matrix units: the weights are read once for all rows, and rows are not sorted.

Of experts there is a program for each expert and columns of `out`. It leaves at once where no row chose its expert;
else it multiplies all rows, those of other experts as zeros, and stores its own. One kernel serves all numbers of rows.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton import choice
from quant.kernels.triton.launch import DOT, Launch
from quant.kernels.triton.tiles import codes_at, gated, int4_codes, int8_codes, rounded, scaled, scales_at
from quant.kernels.triton.weights import CardMatrix, CardStack

MOST_ROWS = 16  # what a matrix unit multiplies at once
# Kernels do not take M for a special number of theirs, or they would be compiled anew for 16 rows.


@triton.jit
def _columns_of_x(x, at, inside, start, K: tl.constexpr, GROUPS: tl.constexpr):
    """GROUPS times 64 columns of x from `start` on -> (GROUPS, ROWS, 64): rows that begin at the offsets `at` (ROWS),
    those not inside as zeros."""
    k = start + tl.arange(0, GROUPS)[:, None, None] * 64 + tl.arange(0, 64)[None, None, :]
    mask = inside[None, :, None] if K % (GROUPS * 64) == 0 else inside[None, :, None] & (k < K)
    return tl.load(x + at[None, :, None] + k, mask=mask, other=0.0)


@triton.jit
def _add_product(
    total, x, codes, scales, n, N, start, K: tl.constexpr, BITS: tl.constexpr, DOT: tl.constexpr, GROUPS: tl.constexpr
):
    """total (GROUPS, ROWS, COLUMNS) plus x (GROUPS, ROWS, 64) times the same columns of the weights' rows n (COLUMNS).

    The groups are to be added, and for int8 be multiplied by the scales of rows: `_summed`.
    """
    group = start // 64 + tl.arange(0, GROUPS)
    tile = n // 16
    is_whole: tl.constexpr = K % (GROUPS * 64) == 0
    mask = (
        (tile <= (N - 1) // 16)[None, :] if is_whole else (tile <= (N - 1) // 16)[None, :] & (group < K // 64)[:, None]
    )
    if BITS == 4:
        at = (tile.to(tl.int64) * (K // 64))[None, :] + group[:, None]
        word = codes + (at * 128 + (n % 16)[None, :])[:, :, None] + (tl.arange(0, 8) * 16)[None, None, :]
        w = int4_codes(tl.load(word, mask=mask[:, :, None], other=0), DOT)
        part = tl.dot(x, tl.trans(tl.reshape(w, (GROUPS, n.shape[0], 64)), 0, 2, 1), input_precision="ieee")
        scale = tl.load(scales + at * 16 + (n % 16)[None, :], mask=mask, other=0.0)
        total += part * scale.to(tl.float32)[:, None, :]
    elif BITS == 8:
        at = (tile.to(tl.int64) * (K // 64))[None, :] + group[:, None]
        word = codes + (at * 256 + (n % 16)[None, :])[:, :, None] + (tl.arange(0, 16) * 16)[None, None, :]
        w = int8_codes(tl.load(word, mask=mask[:, :, None], other=0), DOT)
        w = tl.trans(tl.reshape(w, (GROUPS, n.shape[0], 64)), 0, 2, 1)
        total = tl.dot(x, w, total, input_precision="ieee")
    else:
        k = group[:, None] * 64 + tl.arange(0, 64)[None, :]
        at = codes + n.to(tl.int64)[None, None, :] * K + k[:, :, None]
        w = tl.load(at, mask=(n < N)[None, None, :] & (k < K)[:, :, None], other=0.0).to(DOT)
        total = tl.dot(x, w, total, input_precision="ieee")
    return total


@triton.jit
def _summed(total, scales, n, N, BITS: tl.constexpr):
    """What `_add_product` left to do -> (ROWS, COLUMNS)."""
    return scaled(tl.sum(total, axis=0), scales, n, N, BITS)


@triton.jit(do_not_specialize=["M"])
def multiply_few(
    x, codes, scales, bias, out, M, N, stride, K: tl.constexpr, BITS: tl.constexpr, HAS_BIAS: tl.constexpr,
    COLUMNS: tl.constexpr, GROUPS: tl.constexpr, DOT: tl.constexpr, BY_BITS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """x (M, K) -> out (M, N), a row every `stride` numbers. Grid: columns of `out` by COLUMNS."""
    row = tl.arange(0, 16)
    n = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((GROUPS, 16, COLUMNS), tl.float32)
    for start in tl.range(0, K, GROUPS * 64, num_stages=STAGES):
        part = rounded(_columns_of_x(x, row * K, row < M, start, K, GROUPS), DOT, BY_BITS)
        total = _add_product(total, part, codes, scales, n, N, start, K, BITS, DOT, GROUPS)
    total = _summed(total, scales, n, N, BITS)
    if HAS_BIAS:
        total += tl.load(bias + n, mask=n < N, other=0.0)[None, :]
    tl.store(out + row[:, None] * stride + n[None, :], total, mask=(row < M)[:, None] & (n < N)[None, :])


@triton.jit(do_not_specialize=["M"])
def gate_up_few(
    x, choice, code_table, scale_table, out, M, WIDTH, K: tl.constexpr, BITS: tl.constexpr, COLUMNS: tl.constexpr,
    GROUPS: tl.constexpr, DOT: tl.constexpr, BY_BITS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """x (M, K) -> out (M, WIDTH): silu(gate) * up; nothing for rows that skip. Grid: WIDTH by COLUMNS, experts."""
    expert = tl.program_id(1)
    row = tl.arange(0, 16)
    mine = tl.load(choice + row, mask=row < M, other=-1) == expert
    if tl.sum(mine.to(tl.int32), axis=0) > 0:
        codes, scales = codes_at(code_table, expert, BITS), scales_at(scale_table, expert, BITS)
        n = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
        gate = tl.zeros((GROUPS, 16, COLUMNS), tl.float32)
        up = tl.zeros((GROUPS, 16, COLUMNS), tl.float32)
        for start in tl.range(0, K, GROUPS * 64, num_stages=STAGES):
            part = rounded(_columns_of_x(x, row * K, mine, start, K, GROUPS), DOT, BY_BITS)
            gate = _add_product(gate, part, codes, scales, n, WIDTH, start, K, BITS, DOT, GROUPS)
            up = _add_product(up, part, codes, scales, WIDTH + n, 2 * WIDTH, start, K, BITS, DOT, GROUPS)
        gate = _summed(gate, scales, n, WIDTH, BITS)
        up = _summed(up, scales, WIDTH + n, 2 * WIDTH, BITS)
        mask = mine[:, None] & (n < WIDTH)[None, :]
        tl.store(out + row[:, None] * WIDTH + n[None, :], gated(gate, up), mask=mask)


@triton.jit(do_not_specialize=["M"])
def down_few(
    x, choice, weight, code_table, scale_table, kept, out, M, N, K: tl.constexpr, E: tl.constexpr, BITS: tl.constexpr,
    HAS_KEPT: tl.constexpr, COLUMNS: tl.constexpr, GROUPS: tl.constexpr, DOT: tl.constexpr, BY_BITS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """x (M, K) -> out (M, N), times weight. Grid: N by COLUMNS, experts and one more for the rows that skip."""
    expert = tl.program_id(1)
    row = tl.arange(0, 16)
    mine = tl.load(choice + row, mask=row < M, other=-1) == expert
    if tl.sum(mine.to(tl.int32), axis=0) > 0:
        n = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
        mask = mine[:, None] & (n < N)[None, :]
        y = tl.zeros((16, COLUMNS), tl.float32)
        if expert < E:
            total = tl.zeros((GROUPS, 16, COLUMNS), tl.float32)
            codes, scales = codes_at(code_table, expert, BITS), scales_at(scale_table, expert, BITS)
            for start in tl.range(0, K, GROUPS * 64, num_stages=STAGES):
                part = rounded(_columns_of_x(x, row * K, mine, start, K, GROUPS), DOT, BY_BITS)
                total = _add_product(total, part, codes, scales, n, N, start, K, BITS, DOT, GROUPS)
            y = _summed(total, scales, n, N, BITS)
        elif HAS_KEPT:
            y = tl.load(kept + row[:, None] * N + n[None, :], mask=mask, other=0.0)
        factor = tl.load(weight + row, mask=mine, other=0.0)
        tl.store(out + row[:, None] * N + n[None, :], y * factor[:, None], mask=mask)


def product_of_few(x: Tensor, matrix: CardMatrix, out: Tensor) -> Launch:
    """x: (M, K) float32 -> out: (M, N) float32, bias included."""
    n, k = matrix.shape
    scales, bias = (x if one is None else one for one in (matrix.scales, matrix.bias))
    constants = _constants(x, matrix.bits, n, k) | {"HAS_BIAS": matrix.bias is not None}
    arguments = (x, matrix.words, scales, bias, out, len(x), n, out.stride(0))
    return Launch(multiply_few, (triton.cdiv(n, constants["COLUMNS"]),), arguments, constants)


def gate_up_of_few(x: Tensor, choice: Tensor, stack: CardStack, out: Tensor) -> Launch:
    """x: (M, K), choice: (M) int32 -> out: (M, N / 2); rows that skip are not written."""
    n, k = stack.shape
    constants = _constants(x, stack.bits, n // 2, k)
    grid = (triton.cdiv(n // 2, constants["COLUMNS"]), len(stack.matrices))
    return Launch(gate_up_few, grid, (x, choice, stack.codes, stack.scales, out, len(x), n // 2), constants)


def down_of_few(
    x: Tensor, choice: Tensor, weight: Tensor, stack: CardStack, out: Tensor, kept: Tensor | None
) -> Launch:
    """x: (M, K), choice: (M) int32, weight: (M), kept: (M, N) -> out: (M, N)."""
    n, k = stack.shape
    experts = len(stack.matrices)
    constants = _constants(x, stack.bits, n, k) | {"E": experts, "HAS_KEPT": kept is not None}
    arguments = (x, choice, weight, stack.codes, stack.scales, x if kept is None else kept, out, len(x), n)
    return Launch(down_few, (triton.cdiv(n, constants["COLUMNS"]), experts + 1), arguments, constants)


def _constants(x: Tensor, bits: int, n: int, k: int) -> dict[str, object]:
    shape = choice.few_rows(choice.architecture(x.device), bits, n)
    return {
        "K": k,
        "BITS": bits,
        "COLUMNS": shape.columns,
        "DOT": tl.float32 if bits == 32 else DOT,
        "GROUPS": shape.groups,
        "BY_BITS": shape.by_bits,
        "STAGES": shape.stages,
        "num_warps": shape.warps,
    }
