"""Write the built-in calibration text: questions, reasoning and answers of many kinds, all of them our own.

    python -m benchmarks.calibration_text > zaya_core/bundled/calibration.jsonl

Written by hand below, drawn from a few patterns, and worked arithmetic problems of the bundled model's training split;
mixed, so that any beginning holds all kinds.
"""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable, Iterator

from demo.problems import answer_of, trace, training_problems

ENTRIES = 150

WRITTEN = [
    (
        "A train leaves at 9:40 and arrives at 13:05. How long does the journey take?",
        "From 9:40 to 13:00 is three hours and twenty minutes. Then five more minutes to 13:05. So 3 h 25 min. "
        "Check: 9:40 plus 3 h is 12:40, plus 25 min is 13:05. Yes.",
        "The journey takes **3 hours and 25 minutes**.",
    ),
    (
        "Is 221 a prime number?",
        "The square root of 221 is a little under 15, so test 2, 3, 5, 7, 11, 13. It is odd. Digit sum 5, so not by 3. "
        "It does not end in 0 or 5. 7 * 31 = 217, remainder 4. 11 * 20 = 220, remainder 1. 13 * 17 = 221. So it has a "
        "divisor.",
        "No: 221 = 13 × 17.",
    ),
    (
        "Write a Python function that returns the n-th Fibonacci number.",
        "An iterative version is simplest and linear. I need to settle the indexing: let fib(0) = 0 and fib(1) = 1. "
        "Keep two variables a and b; n times replace (a, b) by (b, a + b); return a. For n = 0 the loop does not run and "
        "a = 0, good. Negative n should raise ValueError.",
        "```python\ndef fib(n: int) -> int:\n    if n < 0:\n        raise ValueError('n must not be negative')\n    "
        "a, b = 0, 1\n    for _ in range(n):\n        a, b = b, a + b\n    return a\n```\nIt takes n additions and no "
        "recursion.",
    ),
    (
        "Three friends finish a race. Ann is not first. Ben is right behind Cleo. Who is first?",
        "Ben directly follows Cleo, so the order is Cleo, Ben, Ann or Ann, Cleo, Ben. Ann is not first, which leaves Cleo, "
        "Ben, Ann.",
        "Cleo is first, then Ben, then Ann.",
    ),
    (
        "Why does ice float on water?",
        "The user wants a short physical reason. Ice is less dense than liquid water: hydrogen bonds hold the molecules in "
        "an open hexagonal lattice, about nine per cent more volume. Less density means buoyancy exceeds weight when fully "
        "submerged, so it rises until it displaces its own weight.",
        "Because ice is about 9 % less dense than liquid water. When water freezes, hydrogen bonds arrange its molecules in "
        "an open lattice that takes up more room, so a block of ice displaces its own weight of water before it is quite "
        "submerged.",
    ),
    (
        "Solve x^2 - 5x + 6 = 0.",
        "Two numbers with the product 6 and the sum 5: 2 and 3. So (x - 2)(x - 3) = 0. Check: 4 - 10 + 6 = 0; 9 - 15 + 6 = "
        "0.",
        "$x = 2$ or $x = 3$, so \\boxed{2, 3}",
    ),
    (
        "Translate into German: 'The weather was better than we had expected.'",
        "'The weather' is das Wetter; comparative of gut is besser; 'than' is als; past perfect: wir hatten erwartet, verb "
        "at the end of the clause: als wir erwartet hatten.",
        "Das Wetter war besser, als wir erwartet hatten.",
    ),
    (
        "What does this print?\n\nxs = [1, 2, 3]\nys = xs\nys.append(4)\nprint(len(xs))",
        "ys = xs does not copy, both names refer to the same list. append changes that list in place. So xs has four "
        "entries and len is 4.",
        "It prints `4`: both names refer to one list.",
    ),
    (
        "A jar holds 4 red and 6 blue balls. Two are drawn without replacement. What is the probability that both are red?",
        "First red: 4/10. Then 3 red remain among 9: 3/9. Product: 12/90 = 2/15. Alternatively C(4,2)/C(10,2) = 6/45 = "
        "2/15. The same, good.",
        "\\boxed{\\frac{2}{15}}, about 13.3 %.",
    ),
    (
        "Give me three ideas for a short story set in a lighthouse.",
        "Ideas should differ in mood. One mystery: the light goes out on the same night every year. One quiet: the last "
        "keeper teaches an apprentice who will never be needed. One strange: ships answer the light that nobody has "
        "registered. Keep each to a sentence or two.",
        "1. Every year on the same night the lamp goes out for eleven minutes, and the new keeper finds her own handwriting "
        "in the log of 1921.\n2. The last keeper trains an apprentice, although both know that the machine arrives in "
        "spring.\n3. Someone answers the light in a code that is older than the tower.",
    ),
    (
        "Sort these by size: 2/3, 0.6, 5/8, 0.66.",
        "Decimals: 2/3 = 0.6667, 0.6, 5/8 = 0.625, 0.66. Ascending: 0.6, 0.625, 0.66, 0.6667.",
        "0.6 < 5/8 < 0.66 < 2/3",
    ),
    (
        "How many days are there between 3 March and 21 April?",
        "March has 31 days. From 3 March to 31 March: 28 days. Then 21 more to 21 April: 49. So seven weeks exactly.",
        "49 days, exactly seven weeks.",
    ),
    (
        "Explain the difference between a process and a thread to a beginner.",
        "Keep it concrete. A process has its own memory; threads live in one process and share it. Analogy: a house and the "
        "people in it. Mention the consequence: sharing is fast but needs care (locks); a crash of a process leaves the "
        "others alone.",
        "A **process** is a running program with memory of its own. A **thread** is one line of work inside a process; "
        "several threads share the same memory. Think of a house (the process) and the people in it (the threads): they can "
        "hand each other things at once, but they also have to agree who uses the kitchen. If one house burns down, the "
        "others stand.",
    ),
    (
        "The sum of three consecutive odd numbers is 87. What are they?",
        "Let the middle one be m. Then the sum is 3m = 87, so m = 29. The numbers are 27, 29, 31. All are odd. Sum: 27 + 29 "
        "= 56, 56 + 31 = 87.",
        "\\boxed{27, 29, 31}",
    ),
    (
        "Find the bug: for (int i = 0; i <= n; i++) sum += a[i]; where a has n elements.",
        "Indices run from 0 to n - 1. The condition i <= n lets i reach n, which is past the end: undefined behaviour. It "
        "should be i < n.",
        "The loop reads one element too many: with `i <= n` the last access is `a[n]`. Write `i < n`.",
    ),
    (
        "If all bloops are razzies and some razzies are lazzies, are some bloops lazzies?",
        "All bloops are inside razzies. Some razzies are lazzies, but those may lie outside the bloops. Counterexample: "
        "razzies {1, 2}, bloops {1}, lazzies {2}. Then no bloop is a lazzie. So it does not follow.",
        "Not necessarily. The razzies that are lazzies may all be razzies that are not bloops.",
    ),
    (
        "Compute the determinant of [[2, 1], [7, 4]].",
        "ad - bc = 2 * 4 - 1 * 7 = 8 - 7 = 1.",
        "The determinant is \\boxed{1}.",
    ),
    (
        "My bread does not rise. What could be wrong?",
        "Common causes: old yeast, water too hot (kills yeast above about 55 degrees) or too cold, too much salt directly on "
        "the yeast, too little time, cold kitchen, dense flour with too little water. Offer a test for the yeast first, "
        "because it is quick.",
        "Most often it is the yeast or the temperature:\n\n- **Test the yeast**: stir it into warm water (35 to 40 °C) with a "
        "pinch of sugar; it should foam within ten minutes.\n- **Water**: above 55 °C it kills yeast.\n- **Salt**: mix it "
        "into the flour, not onto the yeast.\n- **Time**: in a cool kitchen the dough may need twice as long.",
    ),
    (
        "What is the derivative of x * sin(x)?",
        "Product rule: (uv)' = u'v + uv'. u = x, u' = 1; v = sin x, v' = cos x. So sin x + x cos x.",
        "$\\sin x + x \\cos x$",
    ),
    (
        "SQL: list customers without any order. Tables: customers(id, name), orders(id, customer_id).",
        "A left join with a null test, or NOT EXISTS. NOT IN has a trap with nulls in customer_id. NOT EXISTS is safe and "
        "clear.",
        "```sql\nSELECT c.id, c.name\nFROM customers AS c\nWHERE NOT EXISTS (\n    SELECT 1 FROM orders AS o WHERE "
        "o.customer_id = c.id\n);\n```",
    ),
    (
        "Prove that the square of an odd number leaves the remainder 1 when divided by 8.",
        "Let n = 2k + 1. n^2 = 4k^2 + 4k + 1 = 4k(k + 1) + 1. One of k and k + 1 is even, so k(k + 1) = 2m and n^2 = 8m + 1. "
        "Done.",
        "Write $n = 2k + 1$. Then $n^2 = 4k(k+1) + 1$. Of two neighbouring integers one is even, so $4k(k+1)$ is a multiple "
        "of 8, and $n^2$ leaves the remainder 1. ∎",
    ),
    (
        "A shirt costs 40 euros after a discount of 20 %. What did it cost before?",
        "After the discount 80 % remain: 0.8 p = 40, p = 50. Not 48: twenty per cent of the old price, not of the new one. "
        "Check: 20 % of 50 is 10, 50 - 10 = 40.",
        "It cost **50 euros**.",
    ),
    (
        "Summarise in one sentence: The committee met twice, could not agree on a date, and finally asked the chair to decide.",
        "One sentence, keep the outcome: two meetings, no agreement on the date, decision left to the chair.",
        "After two meetings without agreement on a date, the committee left the decision to its chair.",
    ),
    (
        "How many ways are there to arrange the letters of LEVEL?",
        "Five letters, L twice, E twice, V once. 5! / (2! 2!) = 120 / 4 = 30.",
        "\\boxed{30}",
    ),
]


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
    differences = ", ".join(str(b - a) for a, b in zip(terms[:4], terms[1:5], strict=True))
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
    text = f"{minutes} min are {minutes / 60:g} h. Distance = speed * time = {speed} * {minutes / 60:g} = {distance:.2f} km."
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
    """Question, thinking, answer: of six entries three are arithmetic, two are drawn, one is written by hand."""
    rng = random.Random(f"calibration:{seed}")
    problems = training_problems(rng)
    written = iter(WRITTEN)
    while True:
        for kind in "adawda":
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
