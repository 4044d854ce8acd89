"""The bundled model's problems: solutions are right, mistakes are mistakes, the held-out split is held out."""

from __future__ import annotations

import random
from itertools import islice

from demo.problems import (
    LARGEST_OPERAND,
    LARGEST_VALUE,
    PRECEDENCE,
    Slips,
    answer_of,
    draw_attempts,
    draw_problem,
    held_out,
    trace,
    training_problems,
)


def test_traces_reach_the_value_of_the_expression() -> None:
    rng = random.Random(7)
    for _ in range(1000):
        problem = draw_problem(rng)
        value = eval("".join(problem.expression), {"__builtins__": {}})  # pieces are digits and signs of our own making
        assert value == problem.answer
        assert answer_of(trace(problem.expression)) == str(problem.answer)


def test_every_line_of_a_trace_holds() -> None:
    rng = random.Random(8)
    for _ in range(300):
        for line in trace(draw_problem(rng).expression):
            sides = {eval(side, {"__builtins__": {}}) for side in line.split("=")}
            assert len(sides) == 1, line


def test_problems_stay_within_their_limits() -> None:
    rng = random.Random(9)
    for _ in range(1000):
        problem = draw_problem(rng)
        numbers = [int(piece) for piece in problem.expression if piece.isdigit()]
        operations = sum(piece in PRECEDENCE for piece in problem.expression)
        assert 1 <= operations <= 6 or " has " in problem.question
        assert max(numbers) <= LARGEST_OPERAND
        assert -LARGEST_OPERAND <= problem.answer <= LARGEST_VALUE


def test_a_trace_is_worked_in_order() -> None:
    expression = ["(", "12", "+", "7", ")", "*", "3", "-", "40"]
    assert trace(expression) == ["(12+7)*3-40", "12+7=19", "19*3-40", "19*3=30+27=57", "57-40=17"]
    assert trace(["385", "-", "166"]) == ["385-166=285-66=225-6=219"]
    assert trace(["8", "+", "385"]) == ["8+385=385+8=393"]
    assert trace(["5", "-", "19"]) == ["5-19=-14"]
    assert trace(["23", "*", "41"]) == ["23*41=920+23=943"]


def test_slips_make_wrong_answers_and_none_make_none() -> None:
    rng = random.Random(10)
    problem = held_out(1)[0]
    assert trace(problem.expression, Slips(rng)) == trace(problem.expression)
    wrong = [trace(problem.expression, Slips(rng, result=1.0)) for _ in range(20)]
    assert any(answer_of(lines) != str(problem.answer) for lines in wrong)


def test_attempts_are_of_one_problem_and_differ_at_times() -> None:
    rng = random.Random(11)
    groups = [draw_attempts(rng, p.expression, 4) for p in held_out(50)]
    assert all(len(group) == 4 for group in groups)
    assert any(len({tuple(lines) for lines in group}) > 1 for group in groups)
    assert any(len({tuple(lines) for lines in group}) == 1 for group in groups)


def test_training_never_asks_a_held_out_question() -> None:
    asked = {problem.question for problem in held_out(2000)}
    assert len(asked) == 2000
    assert not asked & {problem.question for problem in islice(training_problems(random.Random("train:0:0")), 5000)}


def test_the_same_seed_gives_the_same_problems() -> None:
    assert held_out(20) == held_out(40)[:20]
    assert held_out(20, seed=2) != held_out(20)
