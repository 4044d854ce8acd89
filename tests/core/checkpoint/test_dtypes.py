"""The dtypes of safetensors files: the names are the library's own."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from zaya_core.checkpoint.dtypes import DTYPES, NAMES, nbytes_of


@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_has_the_name_that_the_library_gives_it(name, tmp_path):
    tensor = torch.zeros(3, 5, dtype=DTYPES[name])
    save_file({"x": tensor}, tmp_path / "x.safetensors")
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert file.get_slice("x").get_dtype() == name
    assert NAMES[tensor.dtype] == name and nbytes_of(name, (3, 5)) == tensor.nbytes
