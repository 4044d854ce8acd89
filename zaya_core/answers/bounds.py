"""Which texts algebra is asked about, and for how long: those whose size does not promise an endless computation."""

from __future__ import annotations

import re

LONGEST_COMPARISON = 1.0  # seconds; who takes longer is stopped, and the answers count as different

_LONGEST = 200  # characters
_DEEPEST = 10  # nested brackets
_MOST_PRODUCTS = 20  # powers of sums and sums over an index, which expand
_HUGE = re.compile(
    r"\d{60}"  # a number of that many digits
    r"|\^ ?\{? ?-?\d{5}"  # an exponent of five digits
    r"|\^ ?\{[^{}]*\^ ?\{?[^{}]*\^"  # a tower of powers
    r"|\^ ?\{? ?(?:[5-9]|\d\d+) ?\^|\^ ?\{? ?\w+ ?\^ ?\{? ?(?:[5-9]|\d\d+|\w+ ?\^)"
    r"|[eE]\d{5}"
    r"|\d{5} ?!|! ?!|(?:!|\d{3}|\^)[^()]*\)+ ?!|\^ ?\{?[^{} ]*!"  # a huge factorial, one of another, one in an exponent
    r"|\\(?:sum|prod|int|lim)(?![a-z]).*\\(?:sum|prod|int|lim)(?![a-z])"
    r"|\\(?:sum|prod)(?![a-z]).*\^ ?\{? ?\d{4}"
)


def is_within_bounds(*texts: str) -> bool:
    """Whether algebra may be tried on these texts."""
    return all(map(_is_small, texts))


def _is_small(text: str) -> bool:
    if len(text) > _LONGEST or _HUGE.search(text) is not None:
        return False
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest <= _DEEPEST and text.count("^") <= _MOST_PRODUCTS
