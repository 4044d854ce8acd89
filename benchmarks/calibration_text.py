"""Write the built-in calibration text: questions, reasoning and answers of many kinds, all of them our own.

    python -m benchmarks.calibration_text > zaya_core/bundled/calibration.jsonl

Written by hand (`calibration_written.jsonl`), drawn from a few patterns, and worked arithmetic problems of the bundled
model's training split; mixed, so that any beginning holds all kinds.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

from demo.problems import answer_of, trace, training_problems

ENTRIES = 300

WRITTEN = Path(__file__).with_name("calibration_written.jsonl")


def drawn_gcd(rng: random.Random) -> tuple[str, str, str]:
    a, b = sorted((rng.randint(20, 400), rng.randint(20, 400)), reverse=True)
    lines, x, y = [], a, b
    while y:
        lines.append(f"{x} = {x // y} * {y} + {x % y}")
        x, y = y, x % y
    lines.append(f"The last remainder that is not zero is {x}.")
    question = f"What is the greatest common divisor of {a} and {b}?"
    return question, "Euclid's algorithm:\n" + "\n".join(lines), f"\\boxed{{{x}}}"


def drawn_equation(rng: random.Random) -> tuple[str, str, str]:
    x, a, b = rng.randint(-9, 12), rng.randint(2, 9), rng.randint(-20, 20)
    right = a * x + b
    sign = "+" if b >= 0 else "-"
    text = f"{a}x {sign} {abs(b)} = {right}. Subtract {b}: {a}x = {right - b}. Divide by {a}: x = {x}. "
    return f"Solve for x: {a}x {sign} {abs(b)} = {right}", text + f"Check: {a} * {x} + {b} = {right}.", f"x = {x}"


def drawn_sequence(rng: random.Random) -> tuple[str, str, str]:
    start, step, factor = rng.randint(1, 9), rng.randint(1, 9), rng.choice((1, 1, 2, 3))
    terms = [start]
    for _ in range(5):
        terms.append(terms[-1] * factor + step)
    shown = ", ".join(map(str, terms[:5]))
    differences = ", ".join(str(b - a) for a, b in pairwise(terms[:5]))
    rule = f"add {step}" if factor == 1 else f"multiply by {factor} and add {step}"
    text = f"Differences: {differences}. A rule that fits all of them: {rule}. Then the next is {terms[5]}."
    return f"What comes next: {shown}, ...?", text, f"{terms[5]} (each time {rule})"


def drawn_primes(rng: random.Random) -> tuple[str, str, str]:
    n = rng.randint(50, 999)
    lines, rest, found, p = [], n, [], 2
    while rest > 1:
        if rest % p:
            p += 1
            if p * p > rest:
                p = rest
            continue
        lines.append(f"{rest} / {p} = {rest // p}")
        found.append(p)
        rest //= p
    return f"Factor {n} into primes.", "\n".join(lines), f"{n} = " + " × ".join(map(str, found))


def drawn_loop(rng: random.Random) -> tuple[str, str, str]:
    n, step = rng.randint(3, 6), rng.randint(2, 5)
    code = f"total = 0\nfor i in range({n}):\n    if i % 2 == 0:\n        total += i * {step}\nprint(total)"
    total, lines = 0, []
    for i in range(n):
        total += i * step if i % 2 == 0 else 0
        lines.append(f"i = {i}: {'even, total' if i % 2 == 0 else 'odd, total stays'} {total}")
    return f"What does this program print?\n\n{code}", "\n".join(lines), f"It prints `{total}`."


def drawn_units(rng: random.Random) -> tuple[str, str, str]:
    speed, minutes = rng.randint(4, 130), rng.choice((15, 20, 30, 45, 90))
    distance = speed * minutes / 60
    hours = f"{minutes / 60:g}"
    text = f"{minutes} min are {hours} h. Distance = speed * time = {speed} * {hours} = {distance:.2f} km."
    return f"How far does a car get in {minutes} minutes at {speed} km/h?", text, f"{distance:.2f} km"


def drawn_hypotenuse(rng: random.Random) -> tuple[str, str, str]:
    a, b = rng.randint(2, 20), rng.randint(2, 20)
    c = math.sqrt(a * a + b * b)
    text = f"c^2 = a^2 + b^2 = {a * a} + {b * b} = {a * a + b * b}. The root of {a * a + b * b} is about {c:.3f}."
    return f"The legs of a right triangle are {a} and {b}. How long is the hypotenuse?", text, f"About {c:.3f}"


DRAWN: tuple[Callable[[random.Random], tuple[str, str, str]], ...] = (
    drawn_gcd,
    drawn_equation,
    drawn_sequence,
    drawn_primes,
    drawn_loop,
    drawn_units,
    drawn_hypotenuse,
)


def entries(seed: int = 0) -> Iterator[tuple[str, str, str]]:
    """Question, thinking, answer: of nine entries six are arithmetic, two are drawn, one is written by hand."""
    rng = random.Random(f"calibration:{seed}")
    problems = training_problems(rng)
    written = (tuple(json.loads(line).values()) for line in WRITTEN.read_text(encoding="utf-8").splitlines())
    while True:
        for kind in "adaawaada":
            if kind == "a":
                problem = next(problems)
                lines = trace(problem.expression)
                yield problem.question, "\n".join(lines), f"\\boxed{{{answer_of(lines)}}}"
            elif kind == "d":
                yield rng.choice(DRAWN)(rng)
            else:
                yield next(written, None) or rng.choice(DRAWN)(rng)


def main() -> None:
    for _, (question, thinking, answer) in zip(range(ENTRIES), entries(), strict=False):
        line = {"question": question, "thinking": thinking, "answer": answer}
        sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
