"""Matrices of the reference and the same as kernels take them, and what they multiply to in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from quant.dense import DenseMatrix
from quant.int4 import Int4Matrix, quantize_int4
from quant.int8 import Int8Matrix, quantize_int8
from quant.kernels.triton.weights import CardMatrix, CardStack, card_matrix, card_stack
from tests.gpu.triton.place import PLACE


def numbers(*shape: int, seed: int = 1) -> Tensor:
    """Of a normal distribution, on the CPU."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def matrix_of(format: str, n: int, k: int, seed: int = 0, bias: Tensor | None = None) -> Any:
    """A matrix of the reference, on the CPU: int4, int8, bf16 or float32."""
    weight = numbers(n, k, seed=seed) * k**-0.5
    if format == "int4":
        return Int4Matrix(quantize_int4(weight), (n, k), bias)
    if format == "int8":
        return Int8Matrix(quantize_int8(weight), (n, k), bias)
    return DenseMatrix(weight.bfloat16() if format == "bf16" else weight, bias)


def on_card(matrix: Any) -> CardMatrix:
    """The same for kernels."""
    bias = None if matrix.bias is None else matrix.bias.to(PLACE)
    if isinstance(matrix, DenseMatrix):
        return card_matrix("float", matrix.weight.to(PLACE), None, matrix.shape, bias)
    return card_matrix(matrix.kind, matrix.codes.to(PLACE), matrix.scales.to(PLACE), matrix.shape, bias)


def stack_of(matrices: Sequence[Any]) -> CardStack:
    """A stack of the same for kernels."""
    return card_stack([on_card(matrix) for matrix in matrices])


def tensors_of(*stacks: CardStack) -> list[Tensor]:
    """What the tables of stacks point to."""
    both = [tensor for stack in stacks for one in stack.matrices for tensor in (one.codes, one.scales)]
    return [tensor for tensor in both if tensor is not None]


def multiplied(matrix: Any, x: Tensor) -> Tensor:
    """In float32, where the native products of a CPU round x."""
    y = x @ matrix.dequantize().T
    return y if matrix.bias is None else y + matrix.bias


def multiplied_by_experts(
    x: Tensor, choice: Tensor, weight: Tensor, up: Sequence[Any], down: Sequence[Any], skipped: Tensor
) -> Tensor:
    """down(silu(gate) * up) of each row's expert times weight; of rows that skip what `skipped` has."""
    out = skipped.clone()
    for row, expert in enumerate(choice.tolist()):
        if expert < len(up):
            gate, value = multiplied(up[expert], x[row : row + 1]).chunk(2, dim=1)
            out[row] = multiplied(down[expert], F.silu(gate) * value)[0] * weight[row]
    return out
