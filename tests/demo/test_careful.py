"""Smaller steps: each has the value of the one before and ends, whatever the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.agreement import pieces_of
from demo.careful import is_number, simpler
from demo.problems import apply

MOST_STEPS = 12


def steps(text: str) -> list[str]:
    found = [text]
    while not is_number(found[-1]):
        found.append(simpler(pieces_of(found[-1])))
        assert len(found) <= MOST_STEPS, found
    return found


@given(st.integers(-99, 1999), st.sampled_from("+-*/"), st.integers(0, 999))
def test_the_last_step_is_the_value(left: int, operation: str, right: int) -> None:
    assert steps(f"{left}{operation}{right}")[-1] == str(apply(left, operation, right))


@given(st.lists(st.integers(0, 999), min_size=2, max_size=4))
def test_a_sum_of_several_is_added_up(parts: list[int]) -> None:
    assert steps("+".join(map(str, parts)))[-1] == str(sum(parts))


@pytest.mark.parametrize(
    "line",
    [
        "632/4=100+232/4=150+32/4=158",
        "145-74=105-34=75-4=71",
        "14-53=-(53-14)=-(43-4)=-(40-1)=-39",
        "300-5=290+5=295",
        "7*124=700+140+28=840+28=860+8=868",
        "824/8=100+24/8=103",
    ],
)
def test_what_is_hard_is_taken_apart(line: str) -> None:
    assert "=".join(steps(line.split("=")[0])) == line


@pytest.mark.parametrize("text", ["", "3+", "(3+4)", "3/4/5", "2*3*4"])
def test_what_is_no_single_step_is_said(text: str) -> None:
    with pytest.raises(ValueError):
        simpler(pieces_of(text))
