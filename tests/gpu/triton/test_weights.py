"""Matrices for kernels: what is not one is refused before a kernel reads it."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from quant.kernels.triton.weights import card_matrix, card_stack
from tests.gpu.triton.packed import matrix_of, on_card
from tests.gpu.triton.place import PLACE

INT4 = matrix_of("int4", 40, 64)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nf4", INT4.codes, INT4.scales, (40, 64)), "cards multiply float, int8, int4; this is nf4"),
        (("int4", INT4.codes, None, (40, 64)), "stored as codes, scales; there are codes"),
        (("float", INT4.codes, INT4.scales, (40, 64)), "stored as codes; there are codes, scales"),
        (("int4", INT4.codes, INT4.scales, (56, 64)), r"codes must be \(4, 1, 8, 16, 4\)"),
        (("int4", INT4.codes, INT4.scales.float(), (40, 64)), "scales must be .* float16"),
        (("int8", INT4.codes, INT4.scales, (40, 64)), "codes must be .* int8"),
        (("int4", INT4.codes, INT4.scales, (40, 70)), "groups of 64"),
        (("int4", INT4.codes, INT4.scales, (40, 64), torch.zeros(48)), r"bias must be \(40,\)"),
        (("float", torch.zeros(64, 40).T, None, (40, 64)), "codes must be .*contiguous"),
        (("float", torch.zeros(40, 64).half(), None, (40, 64)), "codes must be .* float32 or bfloat16"),
    ],
)
def test_tensors_of_another_form_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        card_matrix(*arguments)


def test_a_stack_has_matrices_of_one_form():
    for others in (
        matrix_of("int4", 56, 64),
        matrix_of("int8", 40, 64),
        matrix_of("int4", 40, 64, bias=torch.zeros(40)),
    ):
        with pytest.raises(ValueError, match="a stack"):
            card_stack([on_card(INT4), on_card(others)])
    with pytest.raises(ValueError, match="a stack"):
        card_stack([])


def test_a_stack_knows_where_its_matrices_are():
    matrices = [on_card(matrix_of("float32", 5, 7, seed)) for seed in range(3)]
    stack = card_stack(matrices)
    assert stack.codes.tolist() == [one.codes.data_ptr() for one in matrices]
    assert (stack.shape, stack.bits, stack.codes.device) == ((5, 7), 32, PLACE)
