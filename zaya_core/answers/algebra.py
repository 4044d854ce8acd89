"""Whether two formulas are equal, by math-verify: what the worker process runs. Imports no more than it needs.

A number without letters is compared to 40 digits, since math-verify takes `0.333333` for 1/3 and 10^-20 for 2 * 10^-20.
"""

from __future__ import annotations

import faulthandler
import json
import os
import re
import sys
from functools import lru_cache
from typing import Any

from zaya_core.answers.bounds import LONGEST_COMPARISON
from zaya_core.answers.comparison import compare
from zaya_core.answers.reading import form

_DIGITS = 40
_IN_A_BASE = re.compile(r"(?<![A-Za-z_{\d])\d+_")  # 101_2
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\^\\circ")
_MOST_MEMORY = 4 << 30  # bytes, where a process can be limited


def serve() -> None:
    """Answer pairs of texts, a JSON line each, until the parent closes the pipe. The first line says `ready`."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii", buffering=1)
    silence = open(os.devnull, "w")  # noqa: SIM115 — the process's own, until it ends
    os.dup2(silence.fileno(), 1)
    _prepare()
    replies.write("ready\n")
    for line in sys.stdin:
        # A parent that is gone kills nobody: this ends the process, even within a product of large integers.
        faulthandler.dump_traceback_later(3 * LONGEST_COMPARISON, exit=True, file=silence)
        one, other = json.loads(line)
        verdict = _same(one, other)
        faulthandler.cancel_dump_traceback_later()
        replies.write(f"{json.dumps(verdict)}\n")


def _prepare() -> None:
    """Import, read one formula to fill the parser's tables, ignore Ctrl-C, which is meant for the parent."""
    import logging
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable()
    same_formulas(r"\sqrt{8}+x", r"2\sqrt{2}+x")
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, _MOST_MEMORY))
    except (ImportError, ValueError, OSError):
        pass


def _same(one: str, other: str) -> bool:
    try:
        return bool(compare(form(one), form(other), same_formulas))
    except (Exception, RecursionError):  # whatever the library stumbles on, the answers are not known to be equal
        return False


def same_formulas(one: str, other: str) -> bool:
    """Whether two TeX texts are equal expressions, equations or inequalities; False for what is no formula."""
    from sympy import Expr

    if _IN_A_BASE.search(one) or _IN_A_BASE.search(other):
        return one == other
    left, right = _parsed(one), _parsed(other)
    if isinstance(left, Expr) and isinstance(right, Expr):
        if not (left.free_symbols or right.free_symbols):
            return _same_numbers(left, right)
        return _verified(left, right) and not _differ_somewhere(left, right)
    if _is_relation(left) or _is_relation(right):
        return _same_relations(left, right)
    return _verified(left, right)


@lru_cache(maxsize=256)
def _parsed(tex: str) -> Any:
    """A sympy object. Decimals are exact, i is the imaginary unit. Raises whatever the parser raises."""
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from sympy import Float, I, Rational

    tex = _DEGREES.sub(r"(\\frac{\1\\pi}{180})", tex)
    parsed = latex2sympy(tex, is_real=True, conversion_config=ConversionConfig(lowercase_symbols=False))
    exact = {number: Rational(str(number)) for number in parsed.atoms(Float)}
    imaginary = {symbol: I for symbol in parsed.free_symbols if symbol.name == "i"}
    return parsed.xreplace({**exact, **imaginary})


def _verified(left: Any, right: Any) -> bool:
    from math_verify import verify

    if verify(left, right, timeout_seconds=None):
        return True
    return not _is_relation(left) and bool(verify(right, left, timeout_seconds=None))


def _same_numbers(left: Any, right: Any) -> bool:
    one, other = left.doit(), right.doit()
    difference = (one - other).doit() if one.is_finite and other.is_finite else None
    if one == other or (difference is not None and difference.is_Rational):
        return one == other or difference == 0
    if not (one.is_finite and other.is_finite):
        return False
    one, other = one.evalf(_DIGITS + 10), other.evalf(_DIGITS + 10)
    return bool(abs(one - other) <= max(abs(one), abs(other)) * 10**-_DIGITS)


def _differ_somewhere(left: Any, right: Any) -> bool:
    """math-verify rounds coefficients, too: at a point of its own for each letter the values must be the same."""
    from sympy import Rational

    letters = sorted(left.free_symbols | right.free_symbols, key=str)
    point = {letter: Rational(17 + 4 * number, 13) for number, letter in enumerate(letters)}
    one, other = left.xreplace(point).doit(), right.xreplace(point).doit()
    return bool(
        one.is_finite and other.is_finite and one.is_number and other.is_number and not _same_numbers(one, other)
    )


def _is_relation(parsed: Any) -> bool:
    from sympy.core.relational import Relational

    return isinstance(parsed, Relational)


def _same_relations(left: Any, right: Any) -> bool:
    """An equation is no expression; inequalities in one letter are the same where they hold for the same numbers."""
    if not (_is_relation(left) and _is_relation(right)):
        return False
    if _verified(left, right):
        return True
    one_letter = left.free_symbols == right.free_symbols and len(left.free_symbols) == 1
    return one_letter and "==" not in (left.rel_op, right.rel_op) and left.as_set() == right.as_set()
