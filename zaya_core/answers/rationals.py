r"""Numbers as people write them, exactly: `1,234.50`, `1 1/2`, `\frac{3}{4}`, `1.5\cdot 10^{3}`, `0.\overline{3}`."""

from __future__ import annotations

import re
from fractions import Fraction

_MOST_DIGITS = 200  # of a number that is taken as one
_LARGEST_EXPONENT = 9999

THOUSANDS = r"\d{1,3}(?:,\d{3})+(?![\d]|,\d)|\d{1,3}(?: \d{3})+(?! ?\d)"
_PLAIN = rf"(?:{THOUSANDS}|\d+)(?:\.\d*)?|\.\d+"
_DECIMAL = re.compile(rf"({_PLAIN})(?:\\?[eE]([-+]?\d+))?")
_SCALED = re.compile(rf"(?:({_PLAIN}) ?\\cdot ?)?10 ?\^ ?(?:\{{([-+]?\d+)\}}|(\d))")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|bar) ?\{(\d+)\}")
_TEX_FRACTION = re.compile(r"\\frac\{([^{}]+)\} ?\{([^{}]+)\}")
_SLASH = re.compile(r"([^/]+)/([^/]+)")
_MIXED = re.compile(r"(\d+) ?(?:\+ ?)?(\\frac\{\d+\} ?\{\d+\})|(\d+) (\d+ ?/ ?\d+)")


def rational(text: str) -> Fraction | None:
    """The value of a number in the one spelling, None for what is no plain number."""
    text = text.strip()
    if len(text) > _MOST_DIGITS:
        return None
    sign = 1
    while text[:1] in ("-", "+"):
        sign, text = (-sign if text[0] == "-" else sign), text[1:].strip()
    value = _unsigned(_without_brackets(text))
    return None if value is None else sign * value


def _without_brackets(text: str) -> str:
    pairs = {"(": ")", "{": "}"}
    while text[:1] in pairs and text.endswith(pairs[text[0]]) and not set(text[1:-1]) & set("(){},"):
        text = text[1:-1].strip()
    return text


def _unsigned(text: str) -> Fraction | None:
    if text[:1] in ("-", "+"):
        return rational(text)
    values = (read(text) for read in (_decimal, _scaled, _repeating, _mixed, _ratio))
    return next((value for value in values if value is not None), None)


def _decimal(text: str) -> Fraction | None:
    match = _DECIMAL.fullmatch(text)
    if match is None or not match[1].isascii():
        return None
    exponent = int(match[2] or 0)
    return _power_of_ten(_plain(match[1]), exponent)


def _plain(text: str) -> Fraction:
    return Fraction(re.sub("[, ]", "", text) + "0" * text.endswith("."))


def _power_of_ten(value: Fraction, exponent: int) -> Fraction | None:
    return value * Fraction(10) ** exponent if abs(exponent) <= _LARGEST_EXPONENT else None


def _scaled(text: str) -> Fraction | None:
    match = _SCALED.fullmatch(text)
    if match is None or len(match[2] or match[3]) > 6:
        return None
    return _power_of_ten(_plain(match[1] or "1"), int(match[2] or match[3]))


def _repeating(text: str) -> Fraction | None:
    match = _REPEATING.fullmatch(text)
    if match is None:
        return None
    whole, once, period = match[1] or "0", match[2], match[3]
    return Fraction(int(whole + once + period) - int(whole + once), 10 ** len(once) * (10 ** len(period) - 1))


def _mixed(text: str) -> Fraction | None:
    match = _MIXED.fullmatch(text)
    if match is None:
        return None
    part = _ratio(match[2] or match[4])
    return None if part is None else int(match[1] or match[3]) + part


def _ratio(text: str) -> Fraction | None:
    match = _TEX_FRACTION.fullmatch(text) or _SLASH.fullmatch(text)
    if match is None:
        return None
    upper, lower = rational(match[1]), rational(match[2])
    return None if upper is None or not lower else upper / lower
