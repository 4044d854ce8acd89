"""The native products: right on every instruction set of this machine, and a row's bits are its own."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from quant.kernels.native import Format, supported_instruction_sets
from quant.kernels.resolve import _choose
from quant.tiles import pack_int4, pack_int4_scales, pack_int8, padded_rows

SETS = supported_instruction_sets()
ROWS = (1, 2, 3, 7, 8, 15, 16, 17, 33, 64, 257)
SHAPES = ((48, 128), (40, 192), (1016, 128), (272, 2048))  # some with a part of a tile, even and odd numbers of tiles
BF16_SETS = [name for name, products in SETS.items() if products.has_bf16]
FLOAT_SETS = [name for name in BF16_SETS if name != "avx512bf16"]  # that multiply bf16 weights in float32

pytestmark = pytest.mark.skipif(not SETS, reason="zaya was installed without a C++ compiler")


def codes_of(x):
    """x: (M, K) -> codes (M, K/64, 64) and scales (M, K/64), by the definition."""
    groups = x.float().unflatten(1, (-1, 64))
    largest = groups.abs().amax(-1)
    inverse = torch.where(largest > 0, torch.tensor(127.0).div(largest), 0.0)  # 127 / x would round twice
    return (groups * inverse[..., None]).round(), largest / 127


def grouped_sums(x, codes):
    """Exact sums of the products of codes: (M, N, K/64), and the scales of x."""
    x_codes, x_scales = codes_of(x)
    return torch.einsum("mgk,ngk->mng", x_codes.double(), codes.unflatten(1, (-1, 64)).double()), x_scales.double()


class Int4Case:
    """Random codes and scales, as tensors of the format and as numbers."""

    format: Format = "int4"

    def __init__(self, n, k):
        self.codes = torch.randint(-8, 8, (n, k), dtype=torch.int8)
        self.row_scales = (torch.rand(n, k // 64) * 0.1).half()
        self.weights = pack_int4(self.codes)
        self.scales = pack_int4_scales(self.row_scales)

    def expected(self, x):
        sums, x_scales = grouped_sums(x, self.codes)
        return (sums * self.row_scales.double() * x_scales[:, None]).sum(-1)


class Int8Case:
    """The same with one scale for each row."""

    format: Format = "int8"

    def __init__(self, n, k):
        self.codes = torch.randint(-127, 128, (n, k), dtype=torch.int8)
        self.row_scales = torch.rand(n)
        self.weights = pack_int8(self.codes)
        self.scales = torch.nn.functional.pad(self.row_scales, (0, padded_rows(n) - n))

    def expected(self, x):
        sums, x_scales = grouped_sums(x, self.codes)
        return (sums * x_scales[:, None]).sum(-1) * self.row_scales


def spread(m, k):
    """Activations whose groups differ in size, one of them zero."""
    x = torch.randn(m, k) * torch.randn(m, k // 64).exp().repeat_interleave(64, 1)
    x[0, :64] = 0
    return x


@pytest.mark.parametrize("case_of", [Int4Case, Int8Case])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_integer_product_is_the_sum_of_its_codes_with_the_same_bits_on_every_instruction_set(case_of, shape):
    case = case_of(*shape)
    for rows in ROWS:
        x = spread(rows, shape[1])
        outputs = {
            name: products.matmul(case.format, x, [case.weights], [case.scales], [rows], shape[0])
            for name, products in SETS.items()
        }
        expected = case.expected(x)
        for name, y in outputs.items():
            assert (y - expected).abs().max() < 1e-6 * expected.abs().max(), name
            assert torch.equal(y, outputs["portable"]), name


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("case_of", [Int4Case, Int8Case])
def test_the_largest_sums_there_can_be_are_exact(name, case_of):
    """Codes as stored are 15 and 0 or 127 and -127: instruction sets add some of their products in 16 bits."""
    case = case_of(48, 128)
    largest, least = int(case.codes.max()), int(case.codes.min())
    codes = torch.tensor([largest, least]).repeat_interleave(24)[:, None].expand(48, 128).to(torch.int8).contiguous()
    case.codes, case.weights = codes, (pack_int4 if case.format == "int4" else pack_int8)(codes)
    for rows in (1, 4):
        x = torch.ones(rows, 128)
        x[-1] *= -1
        y = SETS[name].matmul(case.format, x, [case.weights], [case.scales], [rows], 48)
        assert torch.allclose(y, case.expected(x).float(), rtol=1e-6)


@pytest.mark.parametrize("case_of", [Int4Case, Int8Case])
def test_groups_that_no_code_stands_for_have_the_same_bits_on_every_instruction_set(case_of):
    """127 over the largest is infinite for such small ones; an infinity itself has no code."""
    case = case_of(48, 128)
    x = torch.randn(5, 128) * 1e-37
    x[3, 7], x[4, 100] = float("inf"), float("-inf")
    outputs = [
        products.matmul(case.format, x, [case.weights], [case.scales], [5], 48).view(torch.int32)
        for products in SETS.values()
    ]
    assert all(torch.equal(y, outputs[0]) for y in outputs)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("case_of", [Int4Case, Int8Case])
def test_a_row_alone_has_the_bits_it_has_among_others(name, case_of):
    case = case_of(48, 256)
    x = spread(33, 256).bfloat16()

    def multiply(rows):
        return SETS[name].matmul(case.format, rows, [case.weights], [case.scales], [len(rows)], 48)

    together = multiply(x)
    for count in (1, 2, 5, 12, 16):
        assert torch.equal(torch.cat([multiply(part) for part in x.split(count)]), together)


@pytest.mark.parametrize("name", BF16_SETS)
def test_a_row_alone_has_the_bits_it_has_among_others_by_bf16_weights(name):
    weights, x = torch.randn(47, 128).bfloat16(), spread(70, 128).bfloat16()

    def multiply(rows):
        return SETS[name].matmul("bf16", rows, [weights], [], [len(rows)], len(weights))

    together = multiply(x)
    for count in (1, 2, 3, 5, 12, 16, 64):
        assert torch.equal(torch.cat([multiply(part) for part in x.split(count)]), together)


def test_a_product_by_bf16_weights_in_float32_has_the_same_bits_on_every_instruction_set():
    for rows, n in ((1, 48), (3, 47), (5, 33), (17, 16), (64, 48)):
        weights, x = torch.randn(n, 320).bfloat16(), spread(rows, 320)
        outputs = [SETS[name].matmul("bf16", x, [weights], [], [rows], n) for name in FLOAT_SETS]
        assert all(torch.equal(y, outputs[-1]) for y in outputs)


@pytest.mark.parametrize("name", SETS)
def test_rows_of_several_experts_are_multiplied_each_by_its_own(name):
    cases = [Int4Case(64, 128) for _ in range(3)]
    counts = [1, 14, 0]
    x = spread(15, 128)
    weights, scales = [c.weights for c in cases], [c.scales for c in cases]
    together = SETS[name].matmul("int4", x, weights, scales, counts, 64)
    apart = [
        SETS[name].matmul("int4", part, [c.weights], [c.scales], [len(part)], 64)
        for c, part in zip(cases, x.split(counts), strict=True)
        if len(part)
    ]
    assert torch.equal(together, torch.cat(apart))


@pytest.mark.parametrize("name", BF16_SETS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_bf16_product_accumulates_in_float32(name, shape):
    weights = torch.randn(shape).bfloat16()
    for rows in ROWS:
        x = torch.randn(rows, shape[1]).bfloat16()
        expected = x.double() @ weights.double().t()
        y = SETS[name].matmul("bf16", x, [weights], [], [rows], shape[0])
        assert (y - expected).abs().max() < 3e-6 * expected.abs().max()  # bf16 sums would be off by 1e-3


@pytest.mark.parametrize("case_of", [Int4Case, Int8Case])
def test_an_outlier_costs_accuracy_in_its_own_group_only(case_of):
    # A real down projection has seen 8,896 among ordinary inputs; one scale for the row would round those to zero.
    case, x = case_of(64, 1024), torch.randn(1, 1024)
    exact = case.codes.double() * (case.row_scales.double().repeat_interleave(64, 1) if case.format == "int4" else 1)
    products = next(iter(SETS.values()))

    def error(row):
        outside = row.clone()
        outside[:, :64] = 0  # the outlier's group multiplied apart
        y = products.matmul(case.format, row, [case.weights], [case.scales], [1], 64)
        inside = products.matmul(case.format, row - outside, [case.weights], [case.scales], [1], 64)
        scale = 1 if case.format == "int4" else case.row_scales.double()
        return float((y.double() - inside.double() - outside.double() @ exact.t() * scale).norm())

    ordinary = error(x)
    with_outlier = x.clone()
    with_outlier[0, 7] = 8896.0
    assert error(with_outlier) < 1.5 * ordinary


def test_threads_change_nothing_and_may_multiply_at_once():
    case, x = Int4Case(512, 256), spread(9, 256)
    products = next(iter(SETS.values()))
    before = torch.get_num_threads()

    def multiply():
        return products.matmul("int4", x, [case.weights], [case.scales], [9], 512)

    alone = multiply()
    found: list[torch.Tensor] = []
    try:
        for count in (1, 2, 3, 4):
            torch.set_num_threads(count)
            assert torch.equal(multiply(), alone)
        threads = [threading.Thread(target=lambda: found.extend(multiply() for _ in range(50))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        torch.set_num_threads(before)
    assert len(found) == 100
    assert all(torch.equal(y, alone) for y in found)


@pytest.mark.processes
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mapped files")
def test_the_library_brings_no_openmp_runtime_of_its_own():
    # In a process that has loaded nothing else: sentencepiece, for one, does bring its own.
    script = """
import torch
from pathlib import Path
from quant.kernels.native import supported_instruction_sets
assert supported_instruction_sets()
lines = Path("/proc/self/maps").read_text().splitlines()
print(len({line.split()[-1] for line in lines if any(name in line for name in ("libgomp", "libomp", "libiomp"))}))
"""
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "1\n"


def test_the_choice_says_why_and_refuses_what_is_not_there():
    assert _choose("auto", SETS).native is next(iter(SETS.values()))
    assert _choose("torch", SETS).native is None
    assert _choose("native:portable", SETS).name == "native portable"
    assert "compiler" in _choose("auto", {}).reason or "instructions" in _choose("auto", {}).reason
    for wanted, sets in (("gpu", SETS), ("native:sse", SETS), ("native", {})):
        with pytest.raises(ValueError, match="ZAYA_KERNELS"):
            _choose(wanted, sets)
