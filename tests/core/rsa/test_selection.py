"""Which candidate is chosen."""

from __future__ import annotations

from zaya_core.answers import comparison
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
