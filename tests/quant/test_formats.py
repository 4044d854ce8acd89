"""The table of weight formats: what it says of each format is so, and it says it without torch."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
import torch

from quant.assemble import packed_matrix, packed_stack, quantize_matrix
from quant.formats import FORMATS, Format, imported, stored_tensors
from quant.packed import PackedMatrix

WRITTEN = [name for name, one in FORMATS.items() if one.quantizer and one.library is None]


def test_every_format_has_one_record_and_its_classes_exist() -> None:
    assert get_args(Format) == tuple(FORMATS)
    for name, one in FORMATS.items():
        assert one.name == name
        assert issubclass(imported(one.matrix), PackedMatrix) and imported(one.matrix).kind == name
        for other in (one.stack, one.quantizer, one.library):
            assert other is None or callable(imported(other))


@pytest.mark.parametrize("kind", FORMATS)
def test_the_bits_of_a_weight_are_those_of_the_stored_tensors(kind: Format) -> None:
    n, k = 1 << 10, 1 << 20
    nbytes = sum(one.nbytes for one in stored_tensors(kind, (n, k)).values())
    assert 8 * nbytes / (n * k) == pytest.approx(FORMATS[kind].bits, rel=1e-4)


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_the_quantizer_makes_is_what_the_table_says_is_stored(kind: Format) -> None:
    weight = torch.randn(33, 128, generator=torch.Generator().manual_seed(1))
    tensors = quantize_matrix(kind, weight)
    stored = stored_tensors(kind, (33, 128))
    assert {name: (tuple(one.shape), one.dtype) for name, one in tensors.items()} == {
        name: (one.shape, one.dtypes[0]) for name, one in stored.items()
    }
    one = packed_matrix(kind, tensors, (33, 128))
    stack = packed_stack(kind, [tensors, tensors], (33, 128))
    assert torch.equal(stack.matrices[1].dequantize(), one.dequantize())
    levels = FORMATS[kind].levels
    if levels is not None:
        step = weight.abs().amax(dim=1, keepdim=True) / levels
        assert bool(((one.dequantize() - weight).abs() <= 0.51 * step).all())


@pytest.mark.processes
def test_the_table_needs_no_torch() -> None:
    code = "import sys, quant.formats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
