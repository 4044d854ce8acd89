r"""Answers: where a text gives one, and which of them are the same. Knows no model and imports no torch.

    finder      the answer in a text
    clause      how far a value goes that a sentence names
    spelling    one spelling for what is written in several ways
    rationals   numbers, exactly
    units       what is written behind a value
    forms       what an answer can be: a number, a choice, words, a formula, several of these
    reading     the form of a written answer
    comparison  whether two forms are the same answer
    bounds      which formulas algebra is asked about
    patience    how long it is waited for
    worker      the process that is asked; algebra: what runs in it, math-verify

The rules are those of the published graders: MATH (hendrycks/math), whose problems name the unit and the order they
want, AIME and HMMT (an exact value), GPQA (a letter), and math-verify where they are silent. That is:

- Units, degree, percent and currency signs do not count, so `50%` is 50 and not 0.5; but 12 cm is not 12 m.
- `x = 5` is 5 and is not `y = 5`. `f(x) = x^2` is `x^2`. An equation without a name on one side is only an equation.
- Values are exact: 0.333 is not 1/3, 3.14 is not pi. Decimals, fractions, mixed numbers, powers of ten are one number.
- `(1, 2)` has an order, `\{1, 2\}` has none, and neither has `1, 2`, which may be either. `[1, 2]` is an interval.
  Bare braces only group: `{1, 2}` is `1, 2`. In a set, and in a list of one value, what is repeated counts once.
- `1,234` is a number, `1, 234` are two. `101_2` is itself only. A ratio is no fraction.
- Letters A to J are choices in either case, `(B) 12 cm` is B. Letters in formulas have a case. Words have none.
"""

from __future__ import annotations

from zaya_core.answers.comparison import same_answer
from zaya_core.answers.finder import Answer, AnswerKind, find_answer
from zaya_core.answers.patience import limited_algebra

__all__ = ["Answer", "AnswerKind", "find_answer", "limited_algebra", "same_answer"]
