"""What a card would answer with a wrong number or a fault is found without one: each kind, planted."""

from __future__ import annotations

import pytest
import torch

triton = pytest.importorskip("triton")
import triton.language as tl  # noqa: E402

from quant.kernels.triton.launch import IS_INTERPRETED, Launch  # noqa: E402
from tests.gpu.triton.sanitizer import expected_fault, sanitized  # noqa: E402

pytestmark = pytest.mark.skipif(not IS_INTERPRETED, reason="the interpreter is watched")


@triton.jit
def moved(x, y, N, EACH: tl.constexpr, REACH: tl.constexpr, SHIFT: tl.constexpr, BARRIER: tl.constexpr):
    """y[i] = x[i] of a program's part, then x[i] = y[i + SHIFT]."""
    i = tl.program_id(0) * EACH + tl.arange(0, REACH)
    value = tl.load(x + i, mask=i < N, other=0.0)
    tl.store(y + i, value, mask=i < N)
    if BARRIER:
        tl.debug_barrier()
    inside = (i + SHIFT >= 0) & (i + SHIFT < N)
    tl.store(x + i, tl.load(y + i + SHIFT, mask=inside, other=0.0), mask=i < N)


def run(n=16, reach=8, shift=0, barrier=True, length=16):
    options = {"EACH": 8, "REACH": reach, "SHIFT": shift, "BARRIER": barrier}
    Launch(moved, (2,), (torch.arange(float(length)), torch.zeros(length), n), options).run()


def test_a_kernel_without_faults_has_none():
    with sanitized():
        run()


@pytest.mark.parametrize(
    ("kind", "planted"),
    [
        ("out of bounds read", {"length": 14}),
        ("a program reads what another writes", {"shift": -1}),
        ("a program writes what another reads", {"shift": 1}),
        ("two programs write", {"reach": 16}),
        ("read after write without barrier", {"barrier": False}),
        ("write after read without barrier", {"barrier": False}),
    ],
)
def test_a_planted_fault_is_found(kind, planted):
    with expected_fault(kind):
        run(**planted)


@triton.jit
def copied_if(wanted, x, y, N, REACH: tl.constexpr):
    """y[i] = x[i] where the one number says so."""
    i = tl.arange(0, REACH)
    mask = (i < N) & (tl.load(wanted) > 0)
    tl.store(y + i, tl.load(x + i, mask=mask, other=0.0), mask=mask)


def test_a_mask_of_lanes_and_one_of_all_of_them_are_seen_as_one():
    x, y = torch.ones(12)[8:], torch.zeros(8)
    with sanitized():
        Launch(copied_if, (1,), (torch.tensor([0]), x[:0], y, 4), {"REACH": 8}).run()
    with sanitized():
        Launch(copied_if, (1,), (torch.tensor([1]), x, y, 4), {"REACH": 8}).run()
    with expected_fault("out of bounds read"):
        Launch(copied_if, (1,), (torch.tensor([1]), x, y, 5), {"REACH": 8}).run()
    assert y.tolist() == [1] * 4 + [0] * 4


def test_a_table_of_addresses_needs_its_targets_named():
    with expected_fault("out of bounds read"):
        Launch(through_table, (1,), (torch.tensor([HIDDEN.data_ptr()]), torch.zeros(4))).run()
    with sanitized(HIDDEN):
        Launch(through_table, (1,), (torch.tensor([HIDDEN.data_ptr()]), out := torch.zeros(4))).run()
    assert out.tolist() == HIDDEN.tolist()


HIDDEN = torch.arange(4.0)


@triton.jit
def through_table(table, out):
    """Four numbers from where the table says."""
    source = tl.load(table).to(tl.pointer_type(tl.float32))
    tl.store(out + tl.arange(0, 4), tl.load(source + tl.arange(0, 4)))
