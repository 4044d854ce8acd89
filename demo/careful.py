"""Arithmetic in smaller steps than a worked solution's: what a step is gone over with where attempts disagree about it.

    632/4=100+232/4=150+32/4=158          a digit of the quotient at a time
    145-74=105-34=75-4=71                 a digit that needs a carry or a borrow: first to the round number
    14-53=-(53-14)=-(43-4)=-(40-1)=-39    below zero: the other way round
    300-5=290+5=295                       from a round hundred: ten less, and back
    7*124=700+140+28=840+28=860+8=868     partial products: two at a time

A division that does not come out, of numbers a faulty solver got, is rounded down.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from demo.problems import apply, leading_part, leading_place, partial_products


def simpler(pieces: Sequence[str]) -> str:
    """The next, easier expression of the same value, at last the value. Raises ValueError for what is no arithmetic."""
    match list(pieces):
        case ["-", "(", *inner, ")"]:
            within = simpler(inner)
            return str(-int(within)) if is_number(within) else f"-({within})"
        case [done, "+", rest, "/", divisor]:
            return quotient(int(done), int(rest), int(divisor))
        case [first, "+", second, "+", third, *others]:
            return f"{int(first) + int(second)}+{third}{''.join(others)}"
        case [left, "+", right]:
            return total(int(left), int(right))
        case [left, "-", right]:
            return difference(int(left), int(right))
        case [left, "*", right]:
            return product(int(left), int(right))
        case [dividend, "/", divisor]:
            return quotient(0, int(dividend), int(divisor))
    raise ValueError(f"no arithmetic: {''.join(pieces)}")


def is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+", text) is not None


def total(left: int, right: int) -> str:
    if min(left, right) < 0:
        return str(left + right)
    if len(str(left)) < len(str(right)):
        return f"{right}+{left}"
    place = leading_place(right)
    to_round = 10 * place - left % (10 * place) // place * place
    part = min(leading_part(right), to_round)
    return f"{left + part}+{right - part}" if right > part else str(left + part)


def difference(left: int, right: int) -> str:
    if min(left, right) < 0:
        return str(left - right)
    if left < right:
        return f"-({right}-{left})"
    place = leading_place(right)
    above_round = left % (10 * place) // place * place
    if place == 1 and left % 100 == 0 and left > 0 and right > 0:
        return f"{left - 10}+{10 - right}"
    part = min(leading_part(right), above_round or right)
    return f"{left - part}-{right - part}" if right > part else str(left - part)


def product(left: int, right: int) -> str:
    parts = partial_products(left, right)
    return "+".join(map(str, parts)) if len(parts) > 1 else str(left * right)


def quotient(done: int, rest: int, divisor: int) -> str:
    """Of done + rest / divisor, with the next digit of the quotient moved to `done`; rounds down."""
    if rest < divisor or divisor <= 0:
        return str(done + apply(rest, "/", divisor))
    part = leading_part(rest // divisor)
    rest -= part * divisor
    return f"{done + part}+{rest}/{divisor}" if rest >= divisor else str(done + part)
