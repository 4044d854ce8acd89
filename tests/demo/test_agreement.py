"""What attempts agree on: their common solution where they do, one in smaller steps where they do not."""

from __future__ import annotations

import random

import pytest

from demo.agreement import Astray, agreed_solution, terms_of
from demo.problems import Slips, answer_of, draw_attempts, draw_problem, trace

EXPRESSION = ["19", "*", "3", "-", "40", "+", "5"]
RIGHT = "19*3-40+5\n19*3=30+27=57\n57-40+5\n57-40=17\n17+5=22"
WRONG = RIGHT.replace("30+27=57\n57", "30+27=58\n58").replace("57-40=17\n17+5=22", "58-40=18\n18+5=23")


def test_without_attempts_the_solution_is_worked_out_and_with_right_ones_it_is_theirs() -> None:
    rng = random.Random(1)
    for _ in range(500):
        problem = draw_problem(rng)
        solution = trace(problem.expression)
        assert answer_of(agreed_solution(problem.expression, [])) == str(problem.answer)
        assert agreed_solution(problem.expression, ["\n".join(solution)] * 3) == solution


def test_all_are_followed_where_they_agree_even_on_what_is_wrong() -> None:
    assert agreed_solution(EXPRESSION, [WRONG, WRONG]) == WRONG.splitlines()


def test_one_that_differs_has_the_step_worked_out_in_smaller_steps() -> None:
    for attempts in ([WRONG, RIGHT], [WRONG, WRONG, WRONG, RIGHT]):
        assert agreed_solution(EXPRESSION, attempts)[:3] == ["19*3-40+5", "19*3=30+27=50+7=57", "57-40+5"]
    quotients = ["632/4=158", "632/4=153", "632/4=163"]
    assert agreed_solution(["632", "/", "4"], quotients) == ["632/4=100+232/4=150+32/4=158"]


def test_what_is_right_is_taken_from_each_attempt() -> None:
    """One errs at the start, one at the end, one is cut off: none is right, what they agree on is."""
    early = "19*3-40+5\n19*3=30+17=47\n47-40+5\n47-40=7\n7+5=12"
    late = RIGHT.replace("17+5=22", "17+5=23")
    cut = "19*3-40+5\n19*3=30+27=57\n57-40+5\n57-40="
    solution = agreed_solution(EXPRESSION, [early, late, cut])
    assert [line.split("=")[-1] for line in solution] == [line.split("=")[-1] for line in RIGHT.splitlines()]


def test_what_follows_from_a_wrong_step_is_worked_out_from_it() -> None:
    wrong = "19*3-40+5\n19*3=30+27=58\n58-40+5\n58-40="
    solution = agreed_solution(EXPRESSION, [wrong + "17\n17+5=22", wrong + "19\n19+5=24"])
    assert solution == ["19*3-40+5", "19*3=30+27=58", "58-40+5", "58-40=18", "18+5=20+3=23"]


@pytest.mark.parametrize("text", ["", "?", "a=b\nc", "1+1=2=3=4"])
def test_any_text_can_be_an_attempt(text: str) -> None:
    assert answer_of(agreed_solution(EXPRESSION, [text, RIGHT, RIGHT])) == "22"


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


def test_slips_of_who_aggregates_are_gone_on_from() -> None:
    """Steps are worked out from the wrong number, and what the line begins with stays what the problem says."""
    rng, answers = random.Random(3), set()
    for _ in range(50):
        solution = agreed_solution(EXPRESSION, [], Slips(rng, 0.3))
        assert solution[0] == RIGHT.splitlines()[0] and solution[1].startswith("19*3=")
        answers.add(answer_of(solution))
    assert len(answers) > 5


def test_terms_keep_all_of_a_solution() -> None:
    assert "".join(terms_of(RIGHT)) == RIGHT + "\n"
