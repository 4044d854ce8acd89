"""Laws of the answers: what is found in a text, and what counts as the same."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaya_core.rsa.answers import find_answer, normalise

WHOLE = st.integers(-(10**12), 10**12)
PIECES = [*"abcXYZ0123456789 .,+-/(){}$%=\\\n−", "\\frac", "\\text{", "\\boxed{"]
WRITTEN = st.lists(st.sampled_from(PIECES)).map("".join)


@given(WRITTEN | st.text())
def test_normalising_twice_changes_nothing_more(text):
    assert normalise(normalise(text)) == normalise(text)


@given(st.text(st.sampled_from("abc123.,()+-/")), st.data())
def test_spacing_never_counts(text, data):
    spaced = "".join(character + data.draw(st.sampled_from(["", " ", "\n", "\\,", "\\ "])) for character in text)
    assert normalise(spaced) == normalise(text)


@given(WHOLE, st.integers(1, 10**6))
def test_all_spellings_of_a_fraction_are_the_same(upper, lower):
    sign, size = ("-" if upper < 0 else ""), abs(upper)
    spellings = [f"{upper}/{lower}", f"{sign}\\frac{{{size}}}{{{lower}}}", f"\\dfrac{{{upper}}}{{{lower}}}",
                 f"${upper} / {lower}$", f"x = {upper}/{lower}", f"\\text{{{upper}/{lower}}}."]  # fmt: skip
    assert {normalise(spelling) for spelling in spellings} == {str(Fraction(upper, lower))}


@given(WHOLE)
def test_thousands_commas_and_zeros_after_the_point_do_not_count(value):
    spellings = [f"{value:,}", str(value), f"{value}.0", f"{value}.", f"{value:,}.00", f"\\({value}\\)", f"{{{value}}}"]
    assert {normalise(spelling) for spelling in spellings} == {str(value)}


@given(WHOLE, WHOLE)
def test_different_numbers_are_different(one, other):
    assert (normalise(str(one)) == normalise(f"{other:,}")) == (one == other)


@given(st.integers(0, 9), st.integers(1, 9))
def test_short_fractions(upper, lower):
    assert normalise(f"\\frac{upper}{lower}") == normalise(f"\\frac{upper}{{{lower}}}") == str(Fraction(upper, lower))


@pytest.mark.parametrize(
    "same",
    [
        ("0.5", "1/2", r"\frac12", r"\tfrac{1}{2}", ".5", "0.50"),
        ("(B)", "B", "B.", r"\text{B}", r"\textbf{(B)}", "(b)"),
        ("(1, 2)", "(1,2)", r"\left( 1,\, 2 \right)", "$(1,2)$"),
        ("50%", r"50\%", "50"),
        ("Yes", "yes", "yes."),
        (r"\sqrt{2}", r"\sqrt {2}", r"$\sqrt{2}$"),
        ("-3", "−3", r"-3.0"),
    ],
)
def test_one_answer_in_several_spellings(same):
    assert len({normalise(text) for text in same}) == 1


@pytest.mark.parametrize(
    "different",
    [("a", "b"), ("x", "X1"), ("1,2,3", "123"), ("(1,2)", "(2,1)"), ("1/2", "2"), ("12", "13"), ("B", "C")],
)
def test_different_answers_stay_different(different):
    assert len({normalise(text) for text in different}) == 2


@pytest.mark.parametrize(
    "hostile", ["9" * 5000, "1e999999999", "1/" + "9" * 3000, "1/0", "x=" * 3000 + "5", "{" * 5000, "\\boxed{" * 900]
)
def test_hostile_answers_cost_nothing_and_break_nothing(hostile):
    assert normalise(hostile)
    find_answer(hostile * 20)


@pytest.mark.parametrize(
    ("text", "kind", "normal"),
    [
        (r"So \boxed{12}, no: \boxed{\frac{1}{2}}", "boxed", "1/2"),
        (r"\boxed{3} and an unfinished \boxed{4", "boxed", "3"),
        (r"\boxed{ } but the answer is 7", "number", "7"),
        ("The answer is 42. I am sure to 99 percent.", "number", "42"),
        ("**Answer:** C", "choice", "C"),
        ("The answer is (D), since 3 > 2.", "choice", "D"),
        ("The final answer is: 3/4", "number", "3/4"),
        ("All three fail.\n\n**(B)**", "choice", "B"),
        ("so x is 1,234.50", "number", "2469/2"),
        ("First\n```python\nprint(1)  \n\n```\nthen 5 more\n```\nprint(2)\n```\nin 3 lines", "code", "print(2)"),
        ("the answer is a question of taste", None, None),
        ("Paris.", None, None),
        ("", None, None),
    ],
)
def test_what_is_found_in_a_text(text, kind, normal):
    found = find_answer(text)
    assert (kind, normal) == (None, None) if found is None else (found.kind, found.normal) == (kind, normal)
