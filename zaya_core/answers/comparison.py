r"""Whether two answers are the same.

The forms decide where they can. Formulas are compared by math-verify, in a process that can be stopped.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from functools import lru_cache

from zaya_core.answers.bounds import is_within_bounds
from zaya_core.answers.forms import Form, Formula, Interval, Matrix, Named, Number, Several, Union, Words
from zaya_core.answers.patience import OutOfPatience
from zaya_core.answers.reading import form
from zaya_core.answers.worker import Worker

Verdict = bool | None  # None: only algebra can tell
SameFormulas = Callable[[str, str], Verdict]

_MOST_ITEMS = 20  # of a set whose order is free

_worker = Worker()


def same_answer(a: str, b: str) -> bool:
    """Whether two answers are the same by the rules of `zaya_core.answers`. Symmetric; never raises; at most about a
    second, and the second that the first comparison of formulas takes to start its process.
    """
    if a.strip() == b.strip():
        return True
    verdict = compare(form(a), form(b), lambda one, other: None)
    if verdict is None and is_within_bounds(a, b):
        with contextlib.suppress(OutOfPatience):
            verdict = _by_algebra(*sorted((a, b)))
    return bool(verdict)


@lru_cache(maxsize=4096)  # of 64 candidates there are 2,016 pairs
def _by_algebra(a: str, b: str) -> Verdict:
    return _worker.ask((a, b))


def compare(one: Form, other: Form, same_formulas: SameFormulas) -> Verdict:
    """Whether two forms are the same answer. same_formulas: asked about two TeX texts."""
    if one == other:
        return True
    if isinstance(one, Named) or isinstance(other, Named):
        return _compare_named(one, other, same_formulas)
    if isinstance(one, Several) or isinstance(other, Several):
        return _compare_several(one, other, same_formulas)
    if isinstance(one, Interval) and isinstance(other, Interval):
        return one.brackets == other.brackets and _all_same(one.ends, other.ends, same_formulas)
    if isinstance(one, Union) and isinstance(other, Union):
        return _same_in_any_order(one.parts, other.parts, same_formulas)
    if isinstance(one, Matrix) and isinstance(other, Matrix):
        return _compare_matrices(one, other, same_formulas)
    if isinstance(one, (Number, Formula)) and isinstance(other, (Number, Formula)):
        return _compare_values(one, other, same_formulas)
    return _compare_words(one, other)


def _compare_values(one: Number | Formula, other: Number | Formula, same_formulas: SameFormulas) -> Verdict:
    if one.unit and other.unit and one.unit != other.unit:
        return False
    if isinstance(one, Number) and isinstance(other, Number):
        return one.value == other.value
    if re.search(r"\\text|\\pmod", _tex(one) + _tex(other)):  # no algebra
        return False
    return same_formulas(_tex(one), _tex(other))


def _tex(value: Number | Formula) -> str:
    if isinstance(value, Formula):
        return value.tex
    upper, lower = value.value.numerator, value.value.denominator
    return str(upper) if lower == 1 else rf"{'-' * (upper < 0)}\frac{{{abs(upper)}}}{{{lower}}}"


def _compare_words(one: Form, other: Form) -> Verdict:
    """A word of few letters is read as a product where it is not marked as words; that is the same word."""
    texts = [str(value).casefold() for value in (one, other) if isinstance(value, (Words, Formula))]
    return len(texts) == 2 and texts[0] == texts[1]


# --- names ------------------------------------------------------------------------------------------------------------


def _compare_named(one: Form, other: Form, same_formulas: SameFormulas) -> Verdict:
    if isinstance(one, Named) and isinstance(other, Named):
        if one.name == other.name:
            return compare(one.value, other.value, same_formulas)
        return same_formulas(one.tex, other.tex) if one.tex and other.tex and _has_letters(one, other) else False
    named, plain = (one, other) if isinstance(one, Named) else (other, one)
    assert isinstance(named, Named)
    if isinstance(plain, Formula) and re.search(r"=|<|>|\\[lg]e(?![a-z])", plain.tex):
        return same_formulas(named.tex, plain.tex) if named.tex else False
    return compare(named.value, plain, same_formulas)


def _has_letters(*named: Named) -> bool:
    return "+" in named[0].name + named[1].name or all(
        isinstance(one.value, Formula) and bool(one.value.letters) for one in named
    )


# --- several ----------------------------------------------------------------------------------------------------------


def _compare_several(one: Form, other: Form, same_formulas: SameFormulas) -> Verdict:
    if isinstance(one, Interval) or isinstance(other, Interval):
        return _compare_with_interval(one, other, same_formulas)
    if not (isinstance(one, Several) and isinstance(other, Several)):
        return False
    orders = {one.order, other.order}
    if orders == {"tuple", "set"}:
        return False
    if "tuple" not in orders:
        if "set" in orders:
            return _both(
                _is_subset(one.items, other.items, same_formulas),
                lambda: _is_subset(other.items, one.items, same_formulas),
            )
        return _same_in_any_order(one.items, other.items, same_formulas)
    return _all_same(_in_order_of_names(one), _in_order_of_names(other), same_formulas)


def _compare_with_interval(one: Form, other: Form, same_formulas: SameFormulas) -> Verdict:
    """A list in square brackets is read as an interval; (1, 2) may be one, too, but is equal to no list of ends."""
    interval, several = (one, other) if isinstance(one, Interval) else (other, one)
    assert isinstance(interval, Interval)
    if isinstance(several, Several) and several.order == "tuple" and interval.brackets == "()":
        return _all_same(interval.ends, several.items, same_formulas)
    return False


def _in_order_of_names(several: Several) -> list[Form]:
    """The values of `y = 2, x = 1` in the order of their names; other items as they stand."""
    named = [item for item in several.items if isinstance(item, Named)]
    if len(named) < len(several.items):
        return list(several.items)
    return [item.value for item in sorted(named, key=lambda item: item.name)]


def _compare_matrices(one: Matrix, other: Matrix, same_formulas: SameFormulas) -> Verdict:
    if one.bars != other.bars or list(map(len, one.rows)) != list(map(len, other.rows)):
        return False
    ones, others = ([cell for row in matrix.rows for cell in row] for matrix in (one, other))
    return _all_same(ones, others, same_formulas)


def _all_same(ones: Iterable[Form], others: Iterable[Form], same_formulas: SameFormulas) -> Verdict:
    ones, others = list(ones), list(others)
    if len(ones) != len(others):
        return False
    verdicts = [compare(one, other, same_formulas) for one, other in zip(ones, others, strict=True)]
    return False if False in verdicts else None if None in verdicts else True


def _same_in_any_order(ones: tuple[Form, ...], others: tuple[Form, ...], same_formulas: SameFormulas) -> Verdict:
    left = list(others)
    if len(ones) != len(left) or len(left) > _MOST_ITEMS:
        return False
    is_unknown = False
    for one in ones:
        verdicts = [compare(one, other, same_formulas) for other in left]
        if True in verdicts:
            left.pop(verdicts.index(True))
        elif None in verdicts:
            is_unknown = True
        else:
            return False
    return None if is_unknown else True


def _is_subset(ones: tuple[Form, ...], others: tuple[Form, ...], same_formulas: SameFormulas) -> Verdict:
    if max(len(ones), len(others)) > _MOST_ITEMS:
        return False
    rows = [[compare(one, other, same_formulas) for other in others] for one in ones]
    if any(True not in row and None not in row for row in rows):
        return False
    return all(True in row for row in rows) or None


def _both(first: Verdict, second: Callable[[], Verdict]) -> Verdict:
    if first is False:
        return False
    verdict = second()
    return verdict if first or verdict is False else None
