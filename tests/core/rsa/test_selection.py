"""Which candidate is chosen."""

from __future__ import annotations

import pytest

from zaya_core.answers import comparison, same_answer
from zaya_core.answers.worker import Worker
from zaya_core.rsa.rollouts import Rollout
from zaya_core.rsa.selection import choose, grouped


def candidates(*answers, state="done"):
    """(answer text, mean log-probability) of each."""
    return [
        Rollout(2, number, (), 0, state, answer=text, mean_logprob=logprob)
        for number, (text, logprob) in enumerate(answers)
    ]


def test_the_most_frequent_answer_wins_in_the_words_of_its_likeliest_candidate():
    choice = choose(candidates((r"\boxed{1/2}", -0.3), ("It is 3.", -0.1), (r"\boxed{0.5}", -0.2)), "agreement")
    assert (choice.rollout.candidate, choice.agreeing, choice.total) == (2, 2, 3)


def test_ties_are_broken_by_mean_log_probability():
    choice = choose(
        candidates((r"\boxed{1}", -0.9), (r"\boxed{2}", -0.2), (r"\boxed{1}", -0.1), (r"\boxed{2}", -0.3)), "agreement"
    )
    assert choice.answer is not None
    assert choice.answer.text == "2"


def test_without_log_probabilities_the_first_of_equals_wins():
    assert choose(candidates((r"\boxed{5}", None), (r"\boxed{4}", None)), "agreement").rollout.candidate == 0


def test_without_answers_the_likeliest_text_wins():
    choice = choose(candidates(("no", -0.5), ("perhaps", -0.1), ("", -0.01)), "agreement", total=8)
    assert (choice.rollout.candidate, choice.answer, choice.agreeing, choice.total) == (1, None, 0, 8)


def test_first_takes_the_first_that_answers():
    choice = choose(candidates(("no", -0.1), (r"\boxed{2}", -0.9), (r"\boxed{3}", -0.1), (r"\boxed{3}", -0.1)), "first")
    assert (choice.rollout.candidate, choice.agreeing) == (1, 1)


def test_what_failed_or_looped_has_no_vote():
    rollouts = [
        *candidates((r"\boxed{1}", -0.1), (r"\boxed{1}", -0.1), state="loop"),
        *candidates((r"\boxed{2}", -3.0)),
    ]
    choice = choose(rollouts, "agreement")
    assert choice.answer is not None
    assert choice.answer.text == "2"


@pytest.mark.processes
def test_answers_vote_together_whatever_their_spelling(monkeypatch):
    monkeypatch.setattr(comparison, "_worker", Worker(longest=30.0))  # on a busy machine, too
    texts = [r"\boxed{\sqrt{12}}", r"\boxed{3}", r"It is $2\sqrt{3}$.", r"\boxed{x = 3}", r"Answer: $\frac{6}{\sqrt3}$"]
    groups = grouped(candidates(*((text, -0.1) for text in texts)))
    assert [[one.candidate for one in group] for group in groups.values()] == [[0, 2, 4], [1, 3]]


def test_an_accidental_number_is_no_vote():
    rollouts = candidates(("In 1969, it began.", -0.3), ("In 1969, too.", -0.2), ("1. Plan 2. Go", -0.1))
    choice = choose(rollouts, "agreement")
    assert (choice.rollout.candidate, choice.answer, choice.agreeing) == (2, None, 0)


def test_each_answer_is_compared_with_one_of_each_group(monkeypatch):
    asked = []

    def same(a, b):
        asked.append((a, b))
        return a == b

    monkeypatch.setattr("zaya_core.answers.finder.same_answer", same)
    grouped(candidates(*((rf"\boxed{{{number % 4}}}", -0.1) for number in range(32))))
    assert len(asked) <= 32 * 4


# --- comparisons that take too long -----------------------------------------------------------------------------------

STUCK_AT_INTEGRALS = r"""
import json, sys, time
print("ready", flush=True)
for line in sys.stdin:
    pair = json.loads(line)
    time.sleep(60 * any("int" in text for text in pair))
    print(json.dumps(all(text.startswith("x") for text in pair)), flush=True)
"""


class Counted(Worker):
    """Counts how often its process had to be started."""

    starts = 0

    def _start(self):
        self.starts += 1
        return super()._start()


@pytest.fixture
def stuck(monkeypatch):
    """Formulas that begin with x are the same, those with an integral take forever."""
    worker = Counted(STUCK_AT_INTEGRALS, longest=1.0)
    monkeypatch.setattr(comparison, "_worker", worker)
    comparison._by_algebra.cache_clear()
    yield worker
    worker.stop()
    comparison._by_algebra.cache_clear()


def integral(number):
    return rf"\int_0^1 f_{{{number}}}(t) dt"


def boxes(*texts):
    return candidates(*((rf"\boxed{{{text}}}", -0.1) for text in texts))


@pytest.mark.processes
def test_sixteen_different_answers_that_algebra_is_endless_on_end_after_a_few_timeouts(stuck):
    stuck._longest = 0.02
    assert len(grouped(boxes(*map(integral, range(16))))) == 16
    assert stuck.starts <= 6


@pytest.mark.processes
def test_an_endless_text_is_given_up_for_good(stuck):
    stuck._longest = 0.02
    for other in range(20):
        assert not same_answer(integral(0), f"y+{other}+z")
    assert stuck.starts <= 4


@pytest.mark.processes
def test_formulas_that_meet_endless_ones_keep_their_votes(stuck):
    texts = [integral(0), "x+1", integral(1), "x+2", "x+3", "x+4"]
    groups = grouped(boxes(*texts))
    assert [[one.candidate for one in group] for group in groups.values()] == [[0], [1, 3, 4, 5], [2]]


@pytest.mark.processes
def test_equal_normal_forms_agree_without_any_patience_left(stuck):
    stuck._longest = 0.02
    texts = [*map(integral, range(8)), integral(7).replace(" ", ""), r"\frac12", "0.5"]
    assert sorted(map(len, grouped(boxes(*texts)).values())) == [1] * 7 + [2, 2]


@pytest.mark.processes
def test_what_there_was_no_time_for_is_asked_again_by_the_next(stuck):
    stuck._longest = 0.02
    grouped(boxes(*map(integral, range(16)), "x+1", "x+2"))
    stuck._longest = 10.0
    assert same_answer("x+1", "x+2")


def test_the_verdicts_on_all_pairs_of_64_candidates_are_kept():
    kept = comparison._by_algebra.cache_info().maxsize
    assert kept is not None and kept >= 64 * 63 // 2
