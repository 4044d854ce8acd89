r"""What an answer is: a number, a letter of a choice, words, a formula, or several of these in a tuple or a set.

The form is the normal form: equal forms are equal answers. What is no number stays a formula in TeX, whose equality
only algebra can tell.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Order = Literal["tuple", "set", "list"]  # (1,2), {1,2}, and without brackets: 1, 2


@dataclass(frozen=True)
class Number:
    """An exact value and its unit, "" for none."""

    value: Fraction
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.value}{self.unit and ' ' + self.unit}"


@dataclass(frozen=True)
class Choice:
    """The letter of a multiple choice."""

    letter: str

    def __str__(self) -> str:
        return self.letter


@dataclass(frozen=True)
class Words:
    """An answer in words, without the case of its letters; also what has no other form."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Formula:
    """An expression, equation or inequality in TeX, and its unit."""

    tex: str
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.tex}{self.unit and ' ' + self.unit}"

    @property
    def letters(self) -> str:
        """The letters that stand for something, without commands."""
        return "".join(re.findall(r"[A-Za-z]+", re.sub(r"\\[A-Za-z]+", " ", self.tex)))


@dataclass(frozen=True)
class Named:
    """`x = 5`, with the whole equation in TeX."""

    name: str
    value: Form
    tex: str

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


@dataclass(frozen=True)
class Several:
    """A tuple, a set or a list."""

    order: Order
    items: tuple[Form, ...]

    def __str__(self) -> str:
        opening, closing = {"tuple": "()", "set": "{}", "list": ("", "")}[self.order]
        return f"{opening}{', '.join(map(str, self.items))}{closing}"


@dataclass(frozen=True)
class Interval:
    """From one end to another; `brackets` are "[]", "[)", "(]" or "()"."""

    brackets: str
    ends: tuple[Form, Form]

    def __str__(self) -> str:
        return f"{self.brackets[0]}{self.ends[0]}, {self.ends[1]}{self.brackets[1]}"


@dataclass(frozen=True)
class Union:
    r"""Intervals and sets joined by `\cup`."""

    parts: tuple[Form, ...]

    def __str__(self) -> str:
        return " ∪ ".join(map(str, self.parts))


@dataclass(frozen=True)
class Matrix:
    """Rows of equal length; `bars` are of a determinant."""

    rows: tuple[tuple[Form, ...], ...]
    bars: bool = False

    def __str__(self) -> str:
        return "; ".join(", ".join(map(str, row)) for row in self.rows)


Form = Number | Choice | Words | Formula | Named | Several | Interval | Union | Matrix
