"""What attempts at a problem agree on, step by step: the solution that an aggregation is taught to write.

A solution is a row of terms, each with the sign that ends it: `12+7=`, `19\\n`, `19*3-40\\n`. The next term is the one
that all attempts have at the same place, whether it is right or not: so the attempts are worth reading even where the
sum is easy. Where they differ (as one that is cut off differs there from the others), or fewer than two have been
there, it is worked out, within a step in smaller steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from demo.careful import is_number, simpler
from demo.problems import BETWEEN_TERMS, Slips, answer_of, next_operation, reduced, trace

MOST_TERMS = 80
END = ""  # the term after the last


class Astray(Exception):
    """What the attempts agree on cannot be gone on with."""


def agreed_solution(expression: list[str], attempts: Sequence[str], slips: Slips | None = None) -> list[str]:
    """The lines of the solution on which the attempts agree, as a solver reads and writes them. Raises Astray."""
    following = [followers(terms_of(attempt)) for attempt in attempts]
    terms: list[str] = []
    while len(terms) < MOST_TERMS:
        term = agreed(following, place(terms))
        if term is None:
            try:
                term = worked_out(expression, terms)
            except (IndexError, ValueError):  # of terms that are no arithmetic
                raise Astray from None
        if term == END:
            return complete(terms)
        is_head = not terms or terms[-1].endswith("\n")
        terms.append(term if is_head or slips is None else with_slips(term, slips))
    raise Astray


def complete(terms: Sequence[str]) -> list[str]:
    """The lines of a solution. Raises Astray where they do not end in a number: all attempts were cut off there."""
    lines = "".join(terms).splitlines()
    if not lines or not is_number(answer_of(lines)):
        raise Astray
    return lines


def with_slips(term: str, slips: Slips) -> str:
    """The term with wrong numbers in it, now and then."""
    return re.sub(r"\d+", lambda number: str(abs(slips.of_result(BETWEEN_TERMS, int(number[0])))), term)


def terms_of(text: str) -> list[str]:
    return re.findall(r"[^=\n]+[=\n]", text + "\n")


def last_step(terms: Sequence[str]) -> int:
    """Where the step begins that ends these terms; their number where they end in an expression."""
    start = last_step_begun(terms[:-1])
    return start if start < len(terms) - 1 else len(terms)


def place(terms: Sequence[str]) -> tuple[str, ...]:
    """What says where in a solution the next term stands.

    Within a step, the term before; after an expression, that expression; after a step, all of it and the term before.
    """
    if not terms or terms[-1].endswith("=") or last_step(terms) == len(terms):
        return tuple(terms[-1:])
    return tuple(terms[max(0, last_step(terms) - 1) :])


def followers(terms: Sequence[str]) -> Mapping[tuple[str, ...], str]:
    """The term that comes next at each place of a solution."""
    found: dict[tuple[str, ...], str] = {}
    for i, term in enumerate([*terms, END]):
        found.setdefault(place(terms[:i]), term)
    return found


def agreed(following: Sequence[Mapping[tuple[str, ...], str]], at: tuple[str, ...]) -> str | None:
    """The term that all attempts have at this place, of two that have been there at least."""
    found = [terms[at] for terms in following if at in terms]
    return found[0] if len(found) >= 2 and len(set(found)) == 1 else None


def worked_out(expression: list[str], terms: list[str]) -> str:
    """The right term after these. Raises Astray, ValueError or IndexError where they are no arithmetic."""
    if terms and terms[-1].endswith("="):
        return within_step(terms[last_step_begun(terms) :])
    pieces = expression
    for begin, end in lines_of(terms):
        pieces = pieces_of(terms[begin]) if end - begin == 1 else after_step(pieces, terms[begin:end])
    if len(pieces) == 1:
        return END
    lines = terms_of("\n".join(trace(pieces)))
    return lines[1] if terms and lines[0] == terms[-1] else lines[0]


def last_step_begun(terms: Sequence[str]) -> int:
    """Where the step begins that these terms leave unfinished; their number where there is none."""
    start = len(terms)
    while start > 0 and terms[start - 1].endswith("="):
        start -= 1
    return start


def lines_of(terms: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where each line begins and ends."""
    begin = 0
    for i, term in enumerate(terms, 1):
        if term.endswith("\n"):
            yield begin, i
            begin = i


def pieces_of(term: str) -> list[str]:
    return re.findall(r"(?<![\d)])-\d+|\d+|[-+*/()]", term)


def within_step(step: Sequence[str]) -> str:
    """The term after these of one step."""
    term = simpler(pieces_of(step[-1]))
    return f"{term}\n" if is_number(term) else f"{term}="


def after_step(pieces: list[str], step: Sequence[str]) -> list[str]:
    """The expression after a step."""
    operation = pieces_of(step[0])
    if len(pieces) < 3:
        raise Astray
    for at in (next_operation(pieces, None), *range(1, len(pieces) - 1)):
        if pieces[at - 1 : at + 2] == operation:
            return reduced(pieces, at, step[-1].strip())
    raise Astray
