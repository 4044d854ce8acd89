"""Products through the reference equal products with the dequantized matrix, which is what they are defined by."""

from __future__ import annotations

import pytest
import torch

from quant.assemble import packed_matrix, packed_stack, quantize_matrix
from quant.kernels.resolve import cpu_products

N, K = 40, 192


@pytest.fixture(autouse=True)
def _reference_products(monkeypatch):
    monkeypatch.setenv("ZAYA_KERNELS", "reference")
    cpu_products.cache_clear()
    yield
    monkeypatch.undo()
    cpu_products.cache_clear()


def make(kind, seed=0, n=N, bias=None):
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    weight = torch.randn(n, K, generator=torch.Generator().manual_seed(seed))
    return packed_matrix(kind, quantize_matrix(kind, weight), (n, K), bias)


@pytest.mark.parametrize("kind", ["int4", "int8", "nf4"])
@pytest.mark.parametrize("rows", [1, 2, 3, 16, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_product_equals_dequantize_then_multiply(kind, rows, dtype):
    bias = torch.randn(N)
    matrix, x = make(kind, bias=bias), torch.randn(2, rows, K).to(dtype)
    expected = x.float() @ matrix.dequantize().t() + bias
    torch.testing.assert_close(matrix.matmul_float32(x), expected, rtol=1e-4, atol=1e-4)
    assert matrix.matmul(x).dtype == dtype
    assert torch.equal(matrix.matmul(x), matrix.matmul_float32(x).to(dtype))


@pytest.mark.parametrize("kind", ["int4", "int8", "nf4"])
@pytest.mark.parametrize("n", [1, 15, 17, 1000])
def test_any_number_of_rows_works_padded_or_not(kind, n):
    matrix, x = make(kind, n=n), torch.randn(3, K)
    assert matrix.dequantize().shape == (n, K)
    torch.testing.assert_close(matrix.matmul_float32(x), x @ matrix.dequantize().t(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["int4", "int8", "nf4"])
def test_embedding_rows_are_the_dequantized_rows(kind):
    matrix = make(kind)
    index = torch.tensor([[0, 39, 16], [15, 17, 17]])
    assert torch.equal(matrix.rows(index), matrix.dequantize()[index])


@pytest.mark.parametrize("kind", ["int4", "int8", "nf4"])
def test_a_stack_multiplies_each_row_by_its_expert(kind):
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    weights = torch.randn(5, N, K)
    tensors = [quantize_matrix(kind, weight) for weight in weights]
    stack, x = packed_stack(kind, tensors, (N, K)), torch.randn(6, K)
    groups = [(0, 1), (2, 3), (4, 2)]
    expert_of_row = [0, 2, 2, 2, 4, 4]
    dense = stack.dequantize()
    expected = torch.stack([x[row] @ dense[expert].t() for row, expert in enumerate(expert_of_row)])
    torch.testing.assert_close(stack.matmul_experts(x, groups), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(stack.matmul_experts(x[:1], [(3, 1)]), x[:1] @ dense[3].t(), rtol=1e-4, atol=1e-4)
    assert stack.nbytes == sum(tensor.nbytes for one in tensors for tensor in one.values())


@pytest.mark.parametrize("kind", ["int4", "int8"])
def test_another_bias_shares_the_codes(kind):
    matrix = make(kind)
    with_bias = matrix.with_bias(torch.ones(N))
    assert with_bias.codes.data_ptr() == matrix.codes.data_ptr()
    x = torch.randn(2, K)
    assert torch.equal(with_bias.matmul(x), matrix.matmul(x) + 1)
