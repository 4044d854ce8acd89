"""A model's matrices as kernels for cards read them, or why they cannot; and their products for the parts of a prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from quant.dense import DenseMatrix
from quant.int4 import Int4Matrix
from quant.int8 import Int8Matrix
from quant.kernels.triton.grouped import grouped_down, grouped_gate_up, sorted_by_expert
from quant.kernels.triton.launch import run_all
from quant.kernels.triton.product import down, gate_up, product
from quant.kernels.triton.weights import CardMatrix, CardStack, card_matrix, card_stack
from quant.matrix import Matrix, Stack, expect_columns
from quant.packed import INPUTS
from zaya_core.model.experts import Experts
from zaya_core.model.steps import Declined


def on_card(matrix: Matrix, what: str) -> CardMatrix:
    """The same weights, not copied. Raises Declined for a format that the kernels do not multiply."""
    if isinstance(matrix, (Int4Matrix, Int8Matrix)):
        bias = None if matrix.bias is None else matrix.bias.float()
        return card_matrix(matrix.kind, matrix.codes, matrix.scales, matrix.shape, bias)
    if isinstance(matrix, DenseMatrix) and matrix.weight.dtype in (torch.bfloat16, torch.float32):
        bias = None if matrix.bias is None else matrix.bias.float()
        return card_matrix("float", matrix.weight, None, matrix.shape, bias)
    raise Declined(f"{what} is stored as {getattr(matrix, 'kind', None) or type(matrix).__name__}, not int4, int8 or bf16")


def stack_on_card(stack: Stack[Matrix], what: str) -> CardStack:
    """Likewise of all experts."""
    return card_stack([on_card(matrix, what) for matrix in stack.matrices])


class CardProduct:
    """See `quant.matrix.Matrix`: a packed matrix whose rows are multiplied where the weights are."""

    def __init__(self, matrix: Matrix, held: CardMatrix):
        self._matrix, self._held, self.bias = matrix, held, matrix.bias

    @property
    def shape(self) -> tuple[int, int]:
        """N, K."""
        return self._matrix.shape

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self._matrix.nbytes

    def matmul(self, x: Tensor) -> Tensor:
        """See `Matrix`."""
        return self.matmul_float32(x).to(x.dtype)

    def matmul_float32(self, x: Tensor) -> Tensor:
        """See `Matrix`."""
        n, k = self.shape
        expect_columns(x, k, INPUTS, self._held.codes.device)
        rows = x.reshape(-1, k)
        out = torch.empty(len(rows), n, device=x.device)
        run_all([product(rows, self._held, out)], x.device)
        return out.view(*x.shape[:-1], n)

    def rows(self, index: Tensor) -> Tensor:
        """See `Matrix`."""
        return self._matrix.rows(index)

    def dequantize(self) -> Tensor:
        """See `Matrix`."""
        return self._matrix.dequantize()

    def with_bias(self, bias: Tensor | None) -> Matrix:
        """See `Matrix`."""
        other = self._matrix.with_bias(bias)
        return CardProduct(other, on_card(other, "a matrix"))
