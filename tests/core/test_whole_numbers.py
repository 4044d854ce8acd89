"""What a whole number is: True, 2.0 and text are none, another library's may be."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from zaya_core.whole_numbers import as_whole, expect_all_whole, expect_whole, is_number, is_whole, without_fraction


class Foreign:
    """As other libraries have them."""

    def __index__(self):
        return 7


def test_python_s_own_are_whole_whoever_asks():
    assert is_whole(2) and is_number(2) and as_whole(2) == expect_whole("n", 2, 0) == 2
    assert is_number(2.5) and not is_whole(2.0) and as_whole(2.0) is None
    assert (without_fraction(50.0), without_fraction(50.5), without_fraction("50")) == (50, 50.5, "50")


@pytest.mark.parametrize("value", [True, False, None, "2", 2.0, float("nan"), [2], torch.tensor(True)])
def test_what_is_no_whole_number_is_none_for_all(value):
    assert not is_whole(value) and as_whole(value) is None
    with pytest.raises(ValueError, match="must be a whole number"):
        expect_whole("n", value, 0)
    assert not is_number(value) or isinstance(value, float)


def test_other_libraries_numbers_are_for_calls_and_not_for_files():
    assert as_whole(Foreign()) == as_whole(torch.tensor(7)) == expect_whole("n", Foreign(), 0) == 7
    assert not is_whole(Foreign())
    with pytest.raises(ValueError, match="must be a whole number"):
        expect_whole("n", torch.tensor(7), 0)
    assert expect_all_whole("n", torch.tensor([1, 2]), 0, 2) == [1, 2]
    with pytest.raises(ValueError, match="a row of whole numbers"):
        expect_all_whole("n", torch.tensor([1.0]), 0, 2)


@pytest.mark.processes
def test_they_are_found_without_torch():
    code = "import sys; from zaya_core.whole_numbers import expect_whole; expect_whole('n', 1, 0); "
    assert (
        subprocess.run([sys.executable, "-c", f"{code}sys.exit('torch' in sys.modules)"], check=False).returncode == 0
    )
