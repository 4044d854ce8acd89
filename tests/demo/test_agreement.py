"""What attempts agree on: their common solution where they do, the worked one where they do not."""

from __future__ import annotations

import random

import pytest

from demo.agreement import Astray, agreed_solution, terms_of
from demo.problems import answer_of, draw_attempts, draw_problem, trace

EXPRESSION = ["19", "*", "3", "-", "40", "+", "5"]
RIGHT = "19*3-40+5\n19*3=30+27=57\n57-40+5\n57-40=17\n17+5=22"


def test_without_attempts_and_with_right_ones_the_solution_is_the_worked_one() -> None:
    rng = random.Random(1)
    for _ in range(500):
        expression = draw_problem(rng).expression
        solution = trace(expression)
        assert agreed_solution(expression, []) == solution
        assert agreed_solution(expression, ["\n".join(solution)] * 3) == solution


def test_two_that_agree_are_followed_even_where_both_are_wrong() -> None:
    wrong = RIGHT.replace("30+27=57\n57", "30+27=58\n58").replace("57-40=17\n17+5=22", "58-40=18\n18+5=23")
    assert agreed_solution(EXPRESSION, [wrong, wrong, RIGHT]) == wrong.splitlines()
    assert agreed_solution(EXPRESSION, [wrong, RIGHT]) == RIGHT.splitlines()


def test_what_is_right_is_taken_from_each_attempt() -> None:
    """One errs at the start, one at the end, one is cut off: none is right, what they agree on is."""
    early = "19*3-40+5\n19*3=30+17=47\n47-40+5\n47-40=7\n7+5=12"
    late = RIGHT.replace("17+5=22", "17+5=23")
    cut = "19*3-40+5\n19*3=30+27=57\n57-40+5\n57-40="
    assert agreed_solution(EXPRESSION, [early, late, cut]) == RIGHT.splitlines()


def test_what_follows_from_a_wrong_step_is_worked_out_from_it() -> None:
    wrong = "19*3-40+5\n19*3=30+27=58\n58-40+5\n58-40="
    solution = agreed_solution(EXPRESSION, [wrong + "17\n17+5=22", wrong + "19\n19+5=24"])
    assert solution == ["19*3-40+5", "19*3=30+27=58", "58-40+5", "58-40=18", "18+5=23"]


@pytest.mark.parametrize("text", ["", "?", "a=b\nc", "1+1=2=3=4"])
def test_any_text_can_be_an_attempt(text: str) -> None:
    assert agreed_solution(EXPRESSION, [text, RIGHT, RIGHT]) == RIGHT.splitlines()


@pytest.mark.parametrize("text", ["", "57)\n{}", "abc\n{}", "3+\n{}", "2*3=a*b={}", "19*3-40+5\n19*3="])
def test_what_is_no_solution_but_agreed_on_is_said(text: str) -> None:
    with pytest.raises(Astray):
        agreed_solution(EXPRESSION, [text.format(1), text.format(2)])


@pytest.mark.parametrize("further", ["6+1=7", "6+1=7+0=7"])
def test_what_cannot_be_gone_on_with_is_said(further: str) -> None:
    """Two attempts go on after the problem is solved, from a number that is not there."""
    beyond = f"2+3=5\n{further}\n7"
    with pytest.raises(Astray):
        agreed_solution(["2", "+", "3"], [beyond + "+", beyond + "-"])


def test_agreement_is_right_more_often_than_its_attempts() -> None:
    rng, right, agreed = random.Random(2), 0.0, 0
    for _ in range(300):
        problem = draw_problem(rng)
        attempts = draw_attempts(rng, problem.expression, 4)
        right += sum(answer_of(lines) == str(problem.answer) for lines in attempts) / 4
        agreed += answer_of(agreed_solution(problem.expression, ["\n".join(a) for a in attempts])) == str(
            problem.answer
        )
    assert agreed > right


def test_terms_keep_all_of_a_solution() -> None:
    assert "".join(terms_of(RIGHT)) == RIGHT + "\n"
