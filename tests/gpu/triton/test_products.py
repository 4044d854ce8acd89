"""Packed products for cards against the float32 reference: of one row, of few, and of a prompt's."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from quant.dense import DenseMatrix
from quant.int4 import Int4Matrix, quantize_int4
from quant.int8 import Int8Matrix, quantize_int8
from quant.kernels.triton.launch import run_all
from quant.kernels.triton.product import down, gate_up, product
from quant.kernels.triton.weights import card_matrix, card_stack
from tests.gpu.triton.place import PLACE, assert_near
from tests.gpu.triton.sanitizer import sanitized

FORMATS = ["int4", "int8", "bf16", "float32"]


def matrix_of(format, n, k, seed=0, bias=None):
    """A matrix of the reference, on the CPU."""
    weight = torch.randn(n, k, generator=torch.Generator().manual_seed(seed)) * k**-0.5
    if format == "int4":
        return Int4Matrix(quantize_int4(weight), (n, k), bias)
    if format == "int8":
        return Int8Matrix(quantize_int8(weight), (n, k), bias)
    return DenseMatrix(weight.bfloat16() if format == "bf16" else weight, bias)


def on_card(matrix):
    """The same for kernels."""
    bias = None if matrix.bias is None else matrix.bias.to(PLACE)
    if isinstance(matrix, DenseMatrix):
        return card_matrix("float", matrix.weight.to(PLACE), None, matrix.shape, bias)
    return card_matrix(matrix.kind, matrix.codes.to(PLACE), matrix.scales.to(PLACE), matrix.shape, bias)


def multiplied(matrix, x):
    """In float32; the native products of a CPU round x."""
    y = x @ matrix.dequantize().T
    return y if matrix.bias is None else y + matrix.bias


def rows_of(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    ("rows", "n", "k"),
    [(1, 40, 64), (1, 96, 320), (2, 40, 192), (5, 16, 64), (16, 96, 320), (17, 40, 64), (33, 96, 192)],
)
def test_a_product(format, rows, n, k):
    if rows > 16 and format in ("bf16", "float32"):
        return
    reference = matrix_of(format, n, k, bias=rows_of(n))
    x, wide = rows_of(rows, k), torch.full((rows, n + 8), 7.0)
    wide = wide.to(PLACE)
    launch = product(x.to(PLACE), on_card(reference), wide[:, 4:-4])
    with sanitized():
        run_all([launch], PLACE)
    assert_near(wide[:, 4:-4], multiplied(reference, x))
    assert (wide[:, :4] == 7).all() and (wide[:, -4:] == 7).all()


def reference_experts(x, choice, weight, stacks, kept):
    out = torch.zeros(len(x), stacks[1][0].shape[0]) if kept is None else kept.clone()
    for row, expert in enumerate(choice.tolist()):
        if expert < len(stacks[0]):
            gate, up = multiplied(stacks[0][expert], x[row : row + 1]).chunk(2, dim=1)
            out[row] = multiplied(stacks[1][expert], torch.nn.functional.silu(gate) * up)[0]
    return out * weight[:, None]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("has_kept", [False, True])
@pytest.mark.parametrize(("rows", "experts"), [(1, 1), (1, 24), (5, 3), (16, 24), (17, 3), (33, 24)])
def test_experts(format, rows, experts, has_kept):
    if rows > 16 and has_kept:
        return
    width, d = 64, 64
    stacks = [[matrix_of(format, n, k, seed) for seed in range(experts)] for n, k in ((2 * width, d), (d, width))]
    x, weight = rows_of(rows, d), rows_of(rows, seed=2).abs()
    choice = torch.randint(0, experts + 1, (rows,), generator=torch.Generator().manual_seed(3)).int()
    kept = rows_of(rows, d, seed=4) if has_kept else None
    up_stack, down_stack = (card_stack([on_card(one) for one in stack]) for stack in stacks)
    middle, out = (
        torch.full((rows, width), float("nan"), device=PLACE),
        torch.full((rows, d), float("nan"), device=PLACE),
    )
    if rows > 16:
        out.zero_()
    launches = [
        gate_up(x.to(PLACE), choice.to(PLACE), up_stack, middle),
        down(middle, choice.to(PLACE), weight.to(PLACE), down_stack, out, kept),
    ]
    tensors = [
        one
        for stack in (up_stack, down_stack)
        for m in stack.matrices
        for one in (m.codes, m.scales)
        if one is not None
    ]
    with sanitized(*tensors):
        run_all(launches, PLACE)
    assert_near(out, reference_experts(x, choice, weight, stacks, kept))
