"""Texts made of pieces of TeX: comparing is symmetric and reflexive, finding is quick, and neither raises."""

from __future__ import annotations

import random
import time

import pytest

from tests.fuzz.budget import rounds
from zaya_core.answers import comparison, find_answer, same_answer
from zaya_core.answers.reading import form
from zaya_core.answers.worker import Worker

PIECES = [
    *"0123456789xyABin+-*/=<>()[]{}.,;:^_!%$| ", "\n", "12", "1,000", r"\frac", r"\frac{1}{2}", r"\sqrt{2}", r"\sqrt",
    r"\pi", r"\left(",
    r"\right)", r"\text{ cm}", r"\text{", r"\boxed{", r"\pm", r"\cup", r"\infty", r"\le", r"\in", r"\{", r"\}",
    r"\circ", r"\%", r"\$",
    r"\begin{pmatrix}", r"\end{pmatrix}", "&", r"\\\\", r"\cdot 10^{", r"\overline{3}", r"\pmod{5}", "½", "²", "−",
    "√", "π", "≤", "４", "°",
    " and ", " or ", "cm", " million", "(B) ", "**", "The answer is ", "answer: ", "```\n", "yes", "so x = ", "\x00",
    "\ud800", "é",
]  # fmt: skip
VALUES = [
    "1/2",
    "0.5",
    "x^2-1",
    "(x-1)(x+1)",
    r"\sqrt{8}",
    r"2\sqrt{2}",
    "(1,2)",
    r"\{2,1\}",
    "B",
    "x=5",
    r"\frac{x}{2}",
    r"\pm 2",
    "12 cm",
]


@pytest.fixture(scope="module", autouse=True)
def _patience():
    before, comparison._worker = comparison._worker, Worker(longest=10.0)
    yield
    comparison._worker.stop()
    comparison._worker = before


def written(rng: random.Random, most: int) -> str:
    return "".join(rng.choices(PIECES, k=rng.randint(1, most)))


def test_comparing_is_reflexive_and_never_raises():
    for case in rounds(2000):
        text = written(random.Random(case), 30)
        assert same_answer(text, f" {text}\n")
        assert isinstance(str(form(text)), str)


@pytest.mark.processes
def test_comparing_is_symmetric():
    for case in rounds(60):
        rng = random.Random(case)
        one, other = (rng.choice([rng.choice(VALUES), written(rng, 8)]) for _ in range(2))
        assert same_answer(one, other) == same_answer(other, one)


def test_finding_never_raises_and_is_quick():
    for case in rounds(2000):
        rng = random.Random(case)
        text = written(rng, rng.choice([20, 200, 2000]))
        start = time.process_time()
        found = find_answer(text)
        assert time.process_time() - start < 0.2
        assert found is None or found.agrees_with(found)
