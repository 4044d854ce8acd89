"""Products of more than 16 rows by matrix units. Rows of experts are sorted on the device, and the host never waits.

The grid has as many blocks of rows as there may be at most: an expert's rows begin a block of their own. A program
finds its expert by counting, and those beyond the last leave at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton import choice
from quant.kernels.triton.launch import DOT, Launch, power_of_two
from quant.kernels.triton.numbers import to_bf16_bits
from quant.kernels.triton.tiles import codes_at, gated, int4_codes, int8_codes, rounded, scaled, scales_at
from quant.kernels.triton.weights import CardMatrix, CardStack


@dataclass(frozen=True)
class SortedRows:
    """order: (T) int32, rows by expert, those that skip last. offsets: (E + 1) int32, where each expert's begin."""

    order: Tensor
    offsets: Tensor


def sorted_by_expert(choice: Tensor, experts: int) -> SortedRows:
    """choice: (T), of numbers 0 to `experts`, which is skip. All on the device of `choice`, which nobody waits for."""
    ordered, order = choice.sort(stable=True)
    bounds = torch.arange(experts + 1, dtype=choice.dtype, device=choice.device)
    return SortedRows(order.int(), torch.searchsorted(ordered, bounds, out_int32=True))


@triton.jit
def _columns_of_x(x, at, inside, start, K: tl.constexpr):
    """64 columns of x from `start` on -> (ROWS, 64): rows that begin at the offsets `at`, those not inside as zeros."""
    k = start + tl.arange(0, 64)
    mask = inside[:, None] if K % 64 == 0 else inside[:, None] & (k < K)[None, :]
    return tl.load(x + at[:, None] + k[None, :], mask=mask, other=0.0)


@triton.jit
def _add_product(total, x, codes, scales, n, N, start, K: tl.constexpr, BITS: tl.constexpr, DOT: tl.constexpr):
    """total (ROWS, COLUMNS) plus x (ROWS, 64) times the same columns of the weights' rows n (COLUMNS).

    For int8 the scales of the rows are still to be multiplied by: `scaled`.
    """
    tile = n // 16
    mask = tile <= (N - 1) // 16
    at = tile.to(tl.int64) * (K // 64) + start // 64
    if BITS == 4:
        word = codes + (at * 128 + n % 16)[:, None] + (tl.arange(0, 8) * 16)[None, :]
        w = tl.reshape(int4_codes(tl.load(word, mask=mask[:, None], other=0), DOT), (n.shape[0], 64))
        part = tl.dot(x, tl.trans(w), input_precision="ieee")
        total += part * tl.load(scales + at * 16 + n % 16, mask=mask, other=0.0).to(tl.float32)[None, :]
    elif BITS == 8:
        word = codes + (at * 256 + n % 16)[:, None] + (tl.arange(0, 16) * 16)[None, :]
        w = tl.reshape(int8_codes(tl.load(word, mask=mask[:, None], other=0), DOT), (n.shape[0], 64))
        total = tl.dot(x, tl.trans(w), total, input_precision="ieee")
    else:
        k = start + tl.arange(0, 64)
        w = codes + n.to(tl.int64)[None, :] * K + k[:, None]
        w = tl.load(w, mask=(n < N)[None, :] & (k < K)[:, None], other=0.0).to(DOT)
        total = tl.dot(x, w, total, input_precision="ieee")
    return total


@triton.jit(do_not_specialize=["M"])  # else it is compiled anew for other numbers of rows
def multiply_many(
    x, codes, scales, bias, out, M, N, stride, K: tl.constexpr, BITS: tl.constexpr, HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DOT: tl.constexpr, BY_BITS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """x (M, K) -> out (M, N), a row every `stride` numbers. Grid: M by ROWS, N by COLUMNS."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in tl.range(0, K, 64, num_stages=STAGES):
        part = rounded(_columns_of_x(x, row.to(tl.int64) * K, row < M, start, K), DOT, BY_BITS)
        total = _add_product(total, part, codes, scales, n, N, start, K, BITS, DOT)
    total = scaled(total, scales, n, N, BITS)
    if HAS_BIAS:
        total += tl.load(bias + n, mask=n < N, other=0.0)[None, :]
    tl.store(out + row.to(tl.int64)[:, None] * stride + n[None, :], total, mask=(row < M)[:, None] & (n < N)[None, :])


@triton.jit
def _rows_of_block(order, offsets, block, E: tl.constexpr, E_PADDED: tl.constexpr, ROWS: tl.constexpr):
    """Block of rows -> its expert, E where there is none; its rows (ROWS), and which of them are rows."""
    experts = tl.arange(0, E_PADDED)
    begin = tl.load(offsets + experts, mask=experts < E, other=0)
    end = tl.load(offsets + experts + 1, mask=experts < E, other=0)
    blocks = (end - begin + ROWS - 1) // ROWS
    after = tl.cumsum(blocks, axis=0)
    mine = (block >= after - blocks) & (block < after)
    expert = tl.min(tl.where(mine, experts, E), axis=0)
    first = tl.sum(tl.where(mine, begin + (block - after + blocks) * ROWS, 0), axis=0)
    at = first + tl.arange(0, ROWS)
    inside = at < tl.sum(tl.where(mine, end, 0), axis=0)
    return expert, tl.load(order + at, mask=inside, other=0), inside


@triton.jit
def gate_up_many(
    x, order, offsets, code_table, scale_table, out, WIDTH, K: tl.constexpr, E: tl.constexpr, E_PADDED: tl.constexpr,
    BITS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DOT: tl.constexpr, BY_BITS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """x (T, K) -> out (T, WIDTH): silu(gate) * up. Grid: blocks of ROWS at most, WIDTH by COLUMNS."""
    expert, row, inside = _rows_of_block(order, offsets, tl.program_id(0), E, E_PADDED, ROWS)
    if expert < E:
        codes, scales = codes_at(code_table, expert, BITS), scales_at(scale_table, expert, BITS)
        n = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        gate = tl.zeros((ROWS, COLUMNS), tl.float32)
        up = tl.zeros((ROWS, COLUMNS), tl.float32)
        for start in tl.range(0, K, 64, num_stages=STAGES):
            part = rounded(_columns_of_x(x, row.to(tl.int64) * K, inside, start, K), DOT, BY_BITS)
            gate = _add_product(gate, part, codes, scales, n, WIDTH, start, K, BITS, DOT)
            up = _add_product(up, part, codes, scales, WIDTH + n, 2 * WIDTH, start, K, BITS, DOT)
        gate = scaled(gate, scales, n, WIDTH, BITS)
        up = scaled(up, scales, WIDTH + n, 2 * WIDTH, BITS)
        at = out + row.to(tl.int64)[:, None] * WIDTH + n[None, :]
        y = gated(gate, up)
        if out.dtype.element_ty == tl.int16:
            y = to_bf16_bits(y)
        tl.store(at, y, mask=inside[:, None] & (n < WIDTH)[None, :])


@triton.jit
def down_many(
    x, order, offsets, weight, code_table, scale_table, out, N, K: tl.constexpr, E: tl.constexpr,
    E_PADDED: tl.constexpr, BITS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DOT: tl.constexpr,
    BY_BITS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """x (T, K) -> out (T, N), times weight. Grid: blocks of ROWS at most, N by COLUMNS."""
    expert, row, inside = _rows_of_block(order, offsets, tl.program_id(0), E, E_PADDED, ROWS)
    if expert < E:
        codes, scales = codes_at(code_table, expert, BITS), scales_at(scale_table, expert, BITS)
        n = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for start in tl.range(0, K, 64, num_stages=STAGES):
            part = rounded(_columns_of_x(x, row.to(tl.int64) * K, inside, start, K), DOT, BY_BITS)
            total = _add_product(total, part, codes, scales, n, N, start, K, BITS, DOT)
        total = scaled(total, scales, n, N, BITS) * tl.load(weight + row, mask=inside, other=0.0)[:, None]
        at = out + row.to(tl.int64)[:, None] * N + n[None, :]
        tl.store(at, total, mask=inside[:, None] & (n < N)[None, :])


def product_of_many(x: Tensor, matrix: CardMatrix, out: Tensor) -> Launch:
    """x: (T, K) float32 or bfloat16 -> out: (T, N) float32, bias included."""
    n, k = matrix.shape
    scales, bias = (x if one is None else one for one in (matrix.scales, matrix.bias))
    constants = _constants(x, matrix.bits, k) | {"HAS_BIAS": matrix.bias is not None}
    grid = (triton.cdiv(len(x), constants["ROWS"]), triton.cdiv(n, constants["COLUMNS"]))
    return Launch(multiply_many, grid, (x, matrix.words, scales, bias, out, len(x), n, out.stride(0)), constants)


def gate_up_of_many(x: Tensor, rows: SortedRows, stack: CardStack, out: Tensor) -> Launch:
    """x: (T, K) -> out: (T, N / 2) float32 or bfloat16; rows that skip are left as they are."""
    n, k = stack.shape
    constants = _constants(x, stack.bits, k, pairs=True) | _of_experts(stack)
    grid = _grid(len(x), n // 2, stack, constants)
    out = out.view(torch.int16) if out.dtype == torch.bfloat16 else out
    arguments = (x, rows.order, rows.offsets, stack.codes, stack.scales, out, n // 2)
    return Launch(gate_up_many, grid, arguments, constants)


def down_of_many(x: Tensor, rows: SortedRows, weight: Tensor, stack: CardStack, out: Tensor) -> Launch:
    """x: (T, K), weight: (T) -> out: (T, N); rows that skip are left as they are."""
    n, k = stack.shape
    constants = _constants(x, stack.bits, k) | _of_experts(stack)
    arguments = (x, rows.order, rows.offsets, weight, stack.codes, stack.scales, out, n)
    return Launch(down_many, _grid(len(x), n, stack, constants), arguments, constants)


def _of_experts(stack: CardStack) -> dict[str, int]:
    return {"E": len(stack.matrices), "E_PADDED": power_of_two(len(stack.matrices))}


def _grid(rows: int, n: int, stack: CardStack, constants: dict[str, int]) -> tuple[int, int]:
    blocks = rows // constants["ROWS"] + min(rows, len(stack.matrices))
    return blocks, triton.cdiv(n, constants["COLUMNS"])


def _constants(x: Tensor, bits: int, k: int, pairs: bool = False) -> dict[str, int]:
    shape = choice.many_rows(choice.architecture(x.device), bits, pairs)
    return {
        "K": k,
        "BITS": bits,
        "ROWS": shape.rows,
        "COLUMNS": shape.columns,
        "DOT": tl.float32 if bits == 32 else DOT,
        "BY_BITS": shape.by_bits,
        "STAGES": shape.stages,
        "num_warps": shape.warps,
    }
