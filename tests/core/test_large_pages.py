"""Large tensors are asked for in large pages, mapped from a file or not; small ones are left alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from zaya_core.large_pages import LEAST, prefer_large_pages

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


def test_a_large_tensor_in_memory_and_its_neighbour_not():
    both = torch.empty(64 * LEAST, dtype=torch.uint8)
    first, last = both[: 32 * LEAST], both[48 * LEAST :]
    assert prefer_large_pages(first) is first
    assert is_asked_for(first)
    assert not is_asked_for(last)


def test_a_tensor_of_a_mapped_file(tmp_path):
    save_file({"large": torch.arange(LEAST, dtype=torch.int32)}, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        tensor = prefer_large_pages(file.get_tensor("large"))
        assert is_asked_for(tensor)
        assert torch.equal(tensor, torch.arange(LEAST, dtype=torch.int32))


def test_a_small_tensor_is_left_alone():
    small = torch.empty(32 * LEAST, dtype=torch.uint8)[16 * LEAST : 17 * LEAST - 1]
    assert not is_asked_for(prefer_large_pages(small))
