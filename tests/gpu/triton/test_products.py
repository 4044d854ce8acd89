"""Products for cards against float32: of one row, of few and of a prompt's, dense and by experts."""

from __future__ import annotations

import dataclasses

import pytest
import torch

pytest.importorskip("triton")

from quant.kernels.triton import choice as choice_of_constants
from quant.kernels.triton.grouped import sorted_by_expert
from quant.kernels.triton.launch import IS_INTERPRETED, run_all
from quant.kernels.triton.product import down, gate_up, product
from tests.gpu.triton.packed import (
    matrix_of,
    multiplied,
    multiplied_by_experts,
    numbers,
    on_card,
    stack_of,
    tensors_of,
)
from tests.gpu.triton.place import PLACE, assert_near
from tests.gpu.triton.sanitizer import expected_fault, sanitized

PACKED = [(1, 40, 64), (1, 96, 320), (2, 40, 192), (5, 16, 64), (16, 96, 320), (17, 40, 64), (33, 96, 192)]
FLOATS = [(1, 41, 70), (2, 41, 70), (16, 96, 192)]
LONG = 2112  # columns of K: one row is multiplied by parts of 2,048
PRODUCTS = [
    *((format, *shape) for format in ("int4", "int8") for shape in (*PACKED, (1, 16, LONG))),
    *((format, *shape) for format in ("bf16", "float32") for shape in (*FLOATS, (1, 5, LONG))),
]


@pytest.mark.parametrize(("format", "rows", "n", "k"), PRODUCTS)
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_product_writes_its_columns_and_no_other(format, rows, n, k, has_bias):
    reference = matrix_of(format, n, k, bias=numbers(n, seed=2) if has_bias else None)
    x, wide = numbers(rows, k), torch.full((rows, n + 8), 7.0, device=PLACE)
    with sanitized():
        run_all([product(x.to(PLACE), on_card(reference), wide[:, 4:-4])], PLACE)
    assert_near(wide[:, 4:-4], multiplied(reference, x))
    assert (wide[:, :4] == 7).all() and (wide[:, -4:] == 7).all()


def choices(kind, rows, experts):
    """Experts of rows; `experts` is skip, which padding rows choose, too."""
    if kind == "one":
        return torch.full((rows,), experts - 1, dtype=torch.int32)
    if kind == "none":
        return torch.full((rows,), experts, dtype=torch.int32)
    return torch.randint(0, experts + 1, (rows,), generator=torch.Generator().manual_seed(rows)).int()


def expert_products(format, choice, width, d, has_kept, dtype=torch.float32):
    """Runs both products -> what came out, what should. NaN lies where nothing may be read, 7 where rows are kept."""
    rows = len(choice)
    experts = 1 if format.endswith("alone") else experts_of(rows)
    up, down_ = (
        [matrix_of(format.split()[0], *shape, seed) for seed in range(experts)]
        for shape in ((2 * width, d), (d, width))
    )
    stacks = stack_of(up), stack_of(down_)
    x, weight, kept = numbers(rows, d).to(dtype), numbers(rows, seed=2).abs(), numbers(rows, d, seed=3)
    middle = torch.full((rows, width), float("nan"), dtype=dtype, device=PLACE)
    out = torch.full((rows, d), float("nan") if rows <= 16 else 7.0, device=PLACE)
    on_place = choice.to(PLACE)
    launches = [
        gate_up(x.to(PLACE), on_place, stacks[0], middle),
        down(middle, on_place, weight.to(PLACE), stacks[1], out, kept.to(PLACE) if has_kept else None),
    ]
    with sanitized(*tensors_of(*stacks)):
        run_all(launches, PLACE)
    skipped = torch.full((rows, d), 7.0) if rows > 16 else kept * weight[:, None] if has_kept else torch.zeros(rows, d)
    return out, multiplied_by_experts(x.float(), choice, weight, up, down_, skipped)


EXPERTS = [
    ("int4", 1, "any", False),
    ("int4", 1, "none", False),
    ("int4", 1, "none", True),
    ("int8", 1, "any", True),
    ("int4", 2, "one", True),
    ("int8", 5, "any", False),
    ("int4", 5, "any", True),
    ("int4", 5, "none", False),
    ("int4", 16, "any", True),
    ("int8", 17, "any", False),
    ("int4", 33, "any", False),
    ("int8", 33, "one", False),
    ("int4", 33, "none", False),
]


@pytest.mark.parametrize(("format", "rows", "kind", "has_kept"), EXPERTS)
def test_experts_of_packed_weights(format, rows, kind, has_kept):
    assert_near(*expert_products(format, choices(kind, rows, experts_of(rows)), 64, 64, has_kept))


def experts_of(rows):
    """Sixteen rows and 33 leave some of 24 experts without any."""
    return 24 if rows in (16, 33) else 3


@pytest.mark.parametrize("rows", [1, 4, 20])
@pytest.mark.parametrize("format", ["bf16", "float32"])
def test_experts_of_floats_of_odd_sizes(format, rows):
    assert_near(*expert_products(format, choices("any", rows, experts_of(rows)), 23, 37, False))


@pytest.mark.parametrize("rows", [1, 3, 18])
def test_one_expert_alone(rows):
    assert_near(*expert_products("int4 alone", choices("any", rows, 1), 64, 128, False))


def test_a_prompt_may_be_bfloat16_all_the_way():
    out, expected = expert_products("int4", choices("any", 20, 3), 64, 64, False, torch.bfloat16)
    assert_near(out, expected, 1e-2)  # gates and ups are rounded on the way


@pytest.mark.skipif(not IS_INTERPRETED, reason="a card has constants of its own")
@pytest.mark.parametrize("architecture", ["sm_86", "gfx1100"])
@pytest.mark.parametrize(("format", "rows"), [("int4", 1), ("int4", 3), ("int8", 3), ("float32", 3), ("int4", 20)])
def test_constants_of_cards_compute_the_same(monkeypatch, architecture, format, rows):
    monkeypatch.setattr(choice_of_constants, "architecture", lambda device: architecture)
    assert_near(*expert_products(format, choices("any", rows, 3), 64, 64, False))


@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul")
@pytest.mark.parametrize("rows", [5, 20])
def test_a_row_does_not_depend_on_those_beside_it(rows):
    """Rows of infinities and NaN change no other row."""
    stack = stack_of([matrix_of("int4", 64, 64, seed) for seed in range(3)])
    x, choice = numbers(rows, 64), torch.arange(rows, dtype=torch.int32) % 3
    results = []
    for wrong in (0.0, float("inf"), float("nan")):
        x[1::2] = wrong
        out = torch.zeros(rows, 64, device=PLACE)
        run_all([down(x.to(PLACE), choice.to(PLACE), torch.ones(rows, device=PLACE), stack, out)], PLACE)
        results.append(out[::2].cpu())
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_rows_are_sorted_without_waiting_for_a_card():
    choice = torch.tensor([2, 4, 0, 2, 4, 2], dtype=torch.int32)
    rows = sorted_by_expert(choice, 4)
    assert rows.order.tolist() == [2, 0, 3, 5, 1, 4] and rows.offsets.tolist() == [0, 1, 1, 4, 4]
    without_numbers = sorted_by_expert(choice.to("meta"), 4)  # raises where anything depends on them
    assert without_numbers.order.shape == (6,) and without_numbers.offsets.dtype == torch.int32


def test_rows_choose_the_kernel():
    matrix, stack = on_card(matrix_of("int4", 64, 64)), stack_of([matrix_of("int4", 64, 64)])
    names = []
    for rows in (1, 2, 16, 17):
        x, choice, out = (torch.zeros(rows, *more, device=PLACE) for more in ((64,), (), (64,)))
        launches = (
            product(x, matrix, out),
            gate_up(x, choice.int(), stack, out[:, :32].contiguous()),
            down(x, choice.int(), choice, stack, out),
        )
        names.append([launch.name.rpartition("_")[2] for launch in launches])
    assert names == [["row"] * 3, ["few"] * 3, ["few"] * 3, ["many"] * 3]


@pytest.mark.skipif(not IS_INTERPRETED, reason="the interpreter is watched")
@pytest.mark.parametrize("rows", [1, 3, 17])
@pytest.mark.parametrize("table", ["codes", "scales"])
def test_a_wrong_table_is_found(rows, table):
    stack = stack_of([matrix_of("int4", 64, 64, seed) for seed in range(2)])
    one = getattr(stack.matrices[0], table)
    wrong = dataclasses.replace(stack, **{table: getattr(stack, table)[:1] + torch.arange(2) * 3 * one.nbytes})
    x, choice = numbers(rows, 64), torch.ones(rows, dtype=torch.int32)
    with expected_fault("out of bounds read", *tensors_of(stack)[:2]):
        run_all([down(x, choice, torch.ones(rows), wrong, torch.zeros(rows, 64))], PLACE)


X, OUT, CHOICE, WEIGHT = torch.zeros(2, 64), torch.zeros(2, 64), torch.zeros(2, dtype=torch.int32), torch.zeros(2)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"x": X[:, :32]}, r"x must be \(2, 64\)"),
        ({"x": X.bfloat16()}, "x must be"),
        ({"x": torch.zeros(64)}, "x must be rows of 64"),
        ({"x": torch.zeros(64, 2).T}, "x must be"),
        ({"choice": CHOICE.long()}, r"choice must be \(2,\) int32"),
        ({"weight": WEIGHT[:1]}, r"weight must be \(2,\)"),
        ({"out": OUT.bfloat16()}, r"out must be \(2, 64\) float32"),
        ({"kept": X[:1]}, r"kept must be \(2, 64\)"),
    ],
)
def test_wrong_arguments_do_not_reach_a_kernel(changed, words):
    stack = stack_of([matrix_of("int8", 64, 64)])
    given = {
        name: one.to(PLACE)
        for name, one in ({"x": X, "choice": CHOICE, "weight": WEIGHT, "out": OUT} | changed).items()
    }
    with pytest.raises(ValueError, match=words):
        down(stack=stack, **given)


def test_what_kernels_do_not_multiply_is_refused():
    many = torch.zeros(17, 64, device=PLACE)
    with pytest.raises(ValueError, match="out must be"):
        product(many, on_card(matrix_of("int8", 64, 64)), many[:1].expand(17, 64))
    with pytest.raises(ValueError, match="torch multiplies 17 rows by floats"):
        product(many, on_card(matrix_of("bf16", 64, 64)), many)
    stack, choice = stack_of([matrix_of("int8", 64, 64)]), torch.zeros(17, dtype=torch.int32, device=PLACE)
    with pytest.raises(ValueError, match="rows that skip"):
        down(many, choice, many[:, 0].contiguous(), stack, many, kept=many)
    with pytest.raises(ValueError, match=r"offsets must be \(2,\)"):
        gate_up(many, choice, stack, many[:, :32].contiguous(), sorted_by_expert(choice, 2))
    with pytest.raises(ValueError, match="whole tiles and half"):
        gate_up(many, choice, stack_of([matrix_of("int8", 48, 64)]), many[:, :24].contiguous())
