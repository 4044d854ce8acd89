"""Large tensors are asked for in large pages, mapped from a file or not; small ones share some."""

from __future__ import annotations

import mmap
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from quant import large_pages
from quant.large_pages import LEAST, SHARED, prefer_large_pages, share_large_pages, zeros_in_large_pages

CPU = torch.device("cpu")
SMAPS = Path("/proc/self/smaps")
pytestmark = pytest.mark.skipif(
    not SMAPS.exists() or not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="no such pages here"
)


def is_asked_for(tensor):
    """Whether the memory in the middle of a tensor has the advice, `hg` in the flags of its area."""
    middle = tensor.data_ptr() + tensor.nbytes // 2
    for area in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", SMAPS.read_text()):
        begin, end = (int(bound, 16) for bound in area.split(" ", 1)[0].split("-"))
        if begin <= middle < end:
            return " hg" in area.rsplit("VmFlags:", 1)[-1]
    raise AssertionError("no area")


def test_a_large_tensor_in_memory():
    tensor = torch.empty(64 * LEAST, dtype=torch.uint8)
    assert prefer_large_pages(tensor) is tensor
    assert is_asked_for(tensor)


def test_a_tensor_of_a_mapped_file(tmp_path):
    save_file({"large": torch.arange(LEAST, dtype=torch.int32)}, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        tensor = prefer_large_pages(file.get_tensor("large"))
        assert is_asked_for(tensor)
        assert torch.equal(tensor, torch.arange(LEAST, dtype=torch.int32))


def test_the_advice_is_for_the_pages_of_the_tensor_alone_and_none_for_a_small_one(monkeypatch):
    """Told from the calls: memory that was given back to the process keeps the advice of its last use."""
    calls = []
    library = SimpleNamespace(madvise=lambda begin, size, advice: calls.append((begin.value, size.value)))
    monkeypatch.setattr(large_pages, "_libc", lambda: library)
    memory = torch.empty(4 * LEAST, dtype=torch.uint8)
    part = memory[LEAST + 5 : 3 * LEAST]
    prefer_large_pages(memory[: LEAST - 1])
    prefer_large_pages(part)
    ((begin, size),) = calls
    assert begin % mmap.PAGESIZE == 0
    assert 0 <= part.data_ptr() - begin < mmap.PAGESIZE
    assert begin + size == part.data_ptr() + part.nbytes


def test_zeros_are_new_memory_of_their_own():
    """Not what an earlier tensor left behind, which is in small pages: each is a mapping of its own."""
    shape = (3, LEAST // 4)
    tensors = [zeros_in_large_pages(shape, torch.float32, CPU) for _ in range(2)]
    for tensor in tensors:
        assert tensor.shape == shape and not tensor.any()
        assert is_asked_for(tensor)
        assert tensor.data_ptr() % mmap.PAGESIZE == 0
    tensors[0].fill_(1)
    assert not tensors[1].any()
    assert not zeros_in_large_pages((2, 3), torch.bfloat16, CPU).any()


def test_small_tensors_lie_side_by_side_in_shared_pages(monkeypatch):
    monkeypatch.setattr(large_pages, "_shared", large_pages._SharedPages())
    tensors = [torch.randn(3, 5), torch.arange(7, dtype=torch.int8), torch.randn(64, 64).bfloat16(), torch.tensor(2.0)]
    shared = [share_large_pages(tensor) for tensor in tensors]
    for tensor, copy in zip(tensors, shared, strict=True):
        assert torch.equal(copy, tensor) and copy.dtype == tensor.dtype and copy.shape == tensor.shape
        assert copy.is_contiguous() and copy.data_ptr() % 64 == 0 and copy.data_ptr() != tensor.data_ptr()
        assert is_asked_for(copy)
    for before, after in pairwise(shared):  # in lines of a cache
        assert before.nbytes <= after.data_ptr() - before.data_ptr() < before.nbytes + 64
    shared[1].zero_()
    assert torch.equal(shared[0], tensors[0]) and torch.equal(shared[2], tensors[2])


def test_what_is_not_contiguous_is_afterwards():
    matrix = torch.arange(12.0).view(3, 4)
    shared = share_large_pages(matrix.T)
    assert torch.equal(shared, matrix.T) and shared.is_contiguous()


def test_what_fills_pages_of_its_own_and_what_is_empty_stay_where_they_are():
    for tensor in (torch.empty(SHARED, dtype=torch.uint8), torch.empty(0, 3)):
        assert share_large_pages(tensor) is tensor


def test_more_small_tensors_than_fit_beside_each_other_do_not_overlap(monkeypatch):
    """More than the 64 MB that are taken at a time, which were taken where tensors cannot be changed later."""
    monkeypatch.setattr(large_pages, "_shared", large_pages._SharedPages())
    with torch.inference_mode():
        share_large_pages(torch.ones(SHARED - 64, dtype=torch.uint8))
    shared = [share_large_pages(torch.full((SHARED - 64,), i, dtype=torch.uint8)) for i in range(40)]
    assert all((tensor == i).all() for i, tensor in enumerate(shared))


def test_memory_that_cannot_be_had_is_said_so():
    with pytest.raises(MemoryError, match="GiB"):
        zeros_in_large_pages((1 << 47,), torch.float32, CPU)
