"""A model's matrices as kernels for cards read them, or why they cannot; and their products for a prompt's rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from quant.dense import DenseMatrix
from quant.int4 import Int4Matrix
from quant.int8 import Int8Matrix
from quant.kernels.triton.few_rows import MOST_ROWS
from quant.kernels.triton.grouped import sorted_by_expert
from quant.kernels.triton.launch import run_all
from quant.kernels.triton.product import down, gate_up, product
from quant.kernels.triton.weights import CardMatrix, CardStack, card_matrix, card_stack
from quant.matrix import Matrix, Stack, expect_columns
from quant.packed import INPUTS
from zaya_core.model.experts import Experts
from zaya_core.model.steps import Declined


def on_card(matrix: Matrix, what: str) -> CardMatrix:
    """The same weights, not copied. Raises Declined for a format that the kernels do not multiply."""
    bias = None if matrix.bias is None else matrix.bias.float()
    if isinstance(matrix, Int4Matrix):
        return card_matrix("int4", matrix.codes, matrix.scales, matrix.shape, bias)
    if isinstance(matrix, Int8Matrix):
        return card_matrix("int8", matrix.codes, matrix.scales, matrix.shape, bias)
    if isinstance(matrix, DenseMatrix):
        return card_matrix("float", matrix.weight, None, matrix.shape, bias)
    raise Declined(f"{what}: its kernels multiply int4, int8 and bf16, not {getattr(matrix, 'kind', type(matrix))}")


def stack_on_card(stack: Stack[Any], what: str) -> CardStack:
    """Likewise of all experts."""
    return card_stack([on_card(matrix, what) for matrix in stack.matrices])


def for_prompts(matrix: Matrix, what: str) -> Matrix:
    """The matrix whose products of many rows are fast: of floats torch's are. Raises Declined."""
    return matrix if isinstance(matrix, DenseMatrix) else CardProduct(matrix, on_card(matrix, what))


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
        rows = x.reshape(-1, k).contiguous()
        rows = rows if len(rows) > MOST_ROWS else rows.float()
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


class CardExperts(Experts):
    """As `Experts`: a prompt's rows are sorted by expert on the card, and nobody waits for their counts."""

    def __init__(self, experts: Experts, gate_up_proj: CardStack, down_proj: CardStack):
        super().__init__(experts.gate_up_proj, experts.down_proj, experts.skip_keeps_input)
        self._gate_up, self._down = gate_up_proj, down_proj

    def __call__(self, x: Tensor, choice: Tensor, weight: Tensor, can_skip: bool) -> Tensor:
        """See `Experts`."""
        choice, is_few = choice.int(), len(x) <= MOST_ROWS
        kept = x.float() if is_few or (can_skip and self.skip_keeps_input) else None
        rows = None if is_few else sorted_by_expert(choice, self.num_experts)
        hidden = torch.empty(len(x), self._down.shape[1], device=x.device)
        if kept is not None and is_few:
            x, kept = kept, kept if self.skip_keeps_input else None
        out = torch.empty(len(x), self._down.shape[0], device=x.device)
        if not is_few and can_skip:  # those that skip are not written
            out = torch.zeros_like(out) if kept is None else kept * weight[:, None]
            kept = None
        both = (
            gate_up(x, choice, self._gate_up, hidden, rows),
            down(hidden, choice, weight, self._down, out, kept, rows),
        )
        run_all(both, x.device)
        return out
