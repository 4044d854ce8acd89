"""Products of every format on a card: those of the matrix that is stored, rounded once to the dtype of the input."""

from __future__ import annotations

import pytest
import torch

from quant import card_products
from quant.assemble import joined, packed_matrix, packed_stack, quantize_matrix
from quant.dense import DenseMatrix, DenseStack
from quant.formats import FORMATS, stored_tensors
from zaya_core.measure.card_traffic import CardTraffic

KINDS = ["bf16", *FORMATS]
N, K = 80, 128


def stored(kind, seed=0, n=N):
    """Tensors of some matrix, on the host."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n, K, generator=generator)
    if FORMATS[kind].quantizer is not None:
        return quantize_matrix(kind, weight)
    tensors = {}
    for suffix, one in stored_tensors(kind, (n, K)).items():
        bytes_ = torch.randint(100, 120, one.shape, dtype=torch.uint8, generator=generator)
        floats = torch.rand(one.shape, generator=generator)
        tensors[suffix] = floats.to(one.dtypes[0]) if one.dtypes[0].is_floating_point else bytes_
    return tensors


def matrix_of(kind, device, seed=0, n=N, has_bias=False):
    bias = torch.linspace(-1, 1, n).to(device) if has_bias else None
    if kind == "bf16":
        weight = torch.randn(n, K, generator=torch.Generator().manual_seed(seed)).bfloat16()
        return DenseMatrix(weight.to(device), bias)
    tensors = {suffix: tensor.to(device) for suffix, tensor in stored(kind, seed, n).items()}
    return packed_matrix(kind, tensors, (n, K), bias)


def near(found, expected, dtype):
    expected = expected.to(dtype).float()
    torch.testing.assert_close(
        found.cpu().float(), expected, atol=float(expected.std()) * (1e-5 if dtype == torch.float32 else 4e-2), rtol=0
    )


@pytest.mark.parametrize("at_once", [1 << 25, 16 * K], ids=["one slice", "slices"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_a_product_on_a_card_is_that_of_the_weights(card, monkeypatch, kind, rows, dtype, at_once):
    monkeypatch.setattr(card_products, "SLICE", at_once)
    has_bias = kind != "nf4" and dtype == torch.float32
    ours, host = matrix_of(kind, "cuda", has_bias=has_bias), matrix_of(kind, "cpu", has_bias=has_bias)
    x = torch.randn(rows, K).to(dtype)
    expected = x.float() @ host.dequantize().t() + (host.bias if has_bias else 0)
    product, accumulator = ours.matmul(x.to("cuda")), ours.matmul_float32(x.to("cuda"))
    assert product.dtype == dtype and accumulator.dtype == torch.float32
    near(product, expected, dtype)
    near(accumulator, expected, torch.float32 if dtype == torch.float32 else torch.bfloat16)
    assert not torch.equal(accumulator.cpu(), accumulator.cpu().bfloat16().float())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_found_on_a_card_by_an_index_of_the_host(card, kind):
    index = torch.tensor([[79, 0], [16, 16]])
    found = matrix_of(kind, "cuda").rows(index).cpu().float()
    torch.testing.assert_close(found, matrix_of(kind, "cpu").dequantize()[index], atol=1e-5, rtol=1e-5)
    with pytest.raises(IndexError, match="0 to 79"):
        matrix_of(kind, "cuda").rows(torch.tensor([80]))


@pytest.mark.parametrize("kind", KINDS)
def test_experts_on_a_card_multiply_their_rows(card, kind):
    def stack(device):
        matrices = [matrix_of(kind, device, seed) for seed in range(3)]
        if kind == "bf16":
            return DenseStack([matrix.weight for matrix in matrices])
        return packed_stack(kind, [matrix.tensors for matrix in matrices], (N, K))

    x = torch.randn(4, K)
    found = stack("cuda").matmul_experts(x.to("cuda"), [(2, 3), (0, 1)])
    weights = stack("cpu").dequantize()
    near(found, torch.cat([x[:3] @ weights[2].t(), x[3:] @ weights[0].t()]), torch.float32)


@pytest.mark.parametrize("kind", ["bf16", "int4", "int8"])
def test_matrices_are_joined_to_one_with_all_their_rows(kind):
    parts = [matrix_of(kind, "cpu", seed, n, has_bias=True) for seed, n in enumerate((32, 16, 48))]
    together = joined(parts)
    assert together is not None and together.shape == (96, K)
    assert torch.equal(together.dequantize(), torch.cat([one.dequantize() for one in parts]))
    assert together.bias is not None and torch.equal(together.bias, torch.cat([one.bias for one in parts]))


def test_what_cannot_be_joined_is_not():
    whole = matrix_of("int8", "cpu", n=32)
    assert joined([whole, matrix_of("int8", "cpu", n=24)]) is None  # its last tile is half empty
    assert joined([whole, matrix_of("int4", "cpu", n=32)]) is None
    assert joined([whole, matrix_of("int8", "cpu", n=32, has_bias=True)]) is None
    floats = matrix_of("bf16", "cpu", n=32)
    assert joined([floats, DenseMatrix(floats.weight.float())]) is None


def test_a_pytorch_that_gives_no_accumulator_multiplies_in_float32(card, monkeypatch):
    """AMD's own builds for Windows may be older than torch.mm's out_dtype."""

    def refused(*args, **kwargs):
        raise RuntimeError("out_dtype is not supported")

    x = torch.randn(2, K).bfloat16().to("cuda")
    matrix = matrix_of("bf16", "cuda")
    expected = matrix.matmul_float32(x).cpu()
    monkeypatch.setattr(torch, "mm", refused)
    card_products._accumulator_can_be_had.cache_clear()
    try:
        near(matrix.matmul_float32(x), expected, torch.float32)
    finally:
        card_products._accumulator_can_be_had.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_a_product_launches_little_and_waits_for_nothing(card, kind):
    matrix, x = matrix_of(kind, "cuda"), torch.randn(1, K).bfloat16().to("cuda")
    matrix.matmul(x)
    with CardTraffic() as traffic:
        matrix.matmul(x)
    assert traffic.launches.total() <= 12
    assert not traffic.synchronisations and not traffic.copies
