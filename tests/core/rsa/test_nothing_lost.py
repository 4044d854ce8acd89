"""What a run has found is not lost to what comes later: empty, looping, cut and failed rounds, and an early stop."""

from __future__ import annotations

import pytest

from tests.core.rsa.scripted import Scripted, numbered
from zaya_core.errors import GenerationError, MemoryFitError, NetworkError, UsageError, ZayaError
from zaya_core.rsa import RsaParams, solve
from zaya_core.rsa.canary import repeats_itself
from zaya_core.rsa.events import StageFinished
from zaya_core.rsa.prompt import aggregation_prompt
from zaya_core.rsa.rollouts import RolloutStarted
from zaya_core.sampling.params import SamplingParams

QUESTION = [{"role": "user", "content": "What is 6 * 7?"}]
PARAMS = RsaParams(candidates=4, rounds=2, subset=2, think=100, tail=8, answer=20)
PROSE = "It was late, and the road to the harbour lay empty between the low walls of the gardens. "
LOOP = "and so on it goes, " * 200


def run(script, params=PARAMS, **settings):
    seen: list = []
    generator = Scripted(script)
    result = solve(generator, QUESTION, params, SamplingParams(top_p=1.0, seed=7), seen.append, **settings)
    return result, seen


def agreeing_until(stage, later):
    """All candidates come to 42 up to a stage; what comes later is `later(request)`."""

    def script(request):
        return {**numbered(request), "thinking": "so it is 42"} if request.stage < stage else later(request)

    return script


LATER = {
    "empty": lambda request: {"thinking": "", "answer": ""},
    "only a thought": lambda request: {"thinking": "let me see", "answer": ""},
    "loops": lambda request: {"thinking": "go on", "answer": LOOP, "state": "loop"},
    "repeats itself until it is cut": lambda request: {"thinking": "go on", "answer": LOOP, "state": "cut"},
    "is cut": lambda request: {"thinking": "go on", "answer": "First we look at", "state": "cut"},
    "fails": lambda request: {"state": "failed", "error": "Gone."},
    "is empty and fails": lambda request: {"state": "failed", "error": "Gone."} if request.candidate else {},
}  # fmt: skip


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("later", LATER.values(), ids=list(LATER))
def test_a_round_that_agrees_outlives_a_later_one(stage, later):
    result, _ = run(agreeing_until(stage, later))
    assert (result.text, result.choice.agreeing, result.choice.total, result.stage) == ("42", 4, 4, stage - 1)


def test_with_one_more_attempt_over_the_answers_that_fails_they_are_compared():
    params = RsaParams(candidates=4, rounds=1, subset=2, select="aggregate")
    result, _ = run(agreeing_until(2, LATER["fails"]), params)
    assert (result.text, result.choice.agreeing, result.stage, result.error) == ("42", 4, 1, "Gone.")


def test_a_later_round_with_an_answer_is_what_counts():
    result, _ = run(agreeing_until(2, lambda request: {"answer": r"\boxed{41}" if request.candidate else ""}))
    assert (result.text, result.choice.agreeing, result.stage) == (r"\boxed{41}", 3, 2)


def test_a_whole_text_of_the_last_round_outlives_a_number_in_an_earlier_thought():
    """An essay whose thought was closed at its budget has no answer to compare, and none is wanted."""

    def script(request):
        number = "in 1969 " if request.stage == 0 and request.candidate == 1 else ""
        return {"thinking": f"about {number}the harbour", "state": "cut", "answer": PROSE if request.answer else ""}

    result, _ = run(script)
    assert (result.text, result.stage) == (PROSE, 2)


@pytest.mark.parametrize("state", ["loop", "cut"])
def test_the_likeliest_text_is_never_a_loop(state):
    def script(request):
        if request.candidate < 3:
            return {"thinking": "go on", "answer": LOOP, "state": state, "mean_logprob": -0.001}
        return {"thinking": "go on", "answer": PROSE, "mean_logprob": -9.0}

    assert run(script, RsaParams(candidates=4, rounds=0))[0].text == PROSE
    only_loops = run(lambda request: {"thinking": "go on", "answer": LOOP, "state": state})[0]
    assert only_loops.text == ""


def test_a_text_that_was_not_cut_is_preferred():
    def script(request):
        is_cut = request.candidate != 2
        state, logprob = ("cut", -0.01) if is_cut else ("done", -5.0)
        text = f"{PROSE}{request.candidate}th"
        return {"answer": text, "state": state, "answer_was_cut": is_cut, "mean_logprob": logprob}

    assert run(script, RsaParams(candidates=4, rounds=0))[0].choice.rollout.candidate == 2


def test_what_repeats_itself():
    assert all(map(repeats_itself, ["ha " * 200, "x" * 300, PROSE * 2 + "the same again. " * 30, LOOP, "é—" * 200]))
    table = "\n".join(f"| {number} | {number**2 * 7919 % 1009} |" for number in range(60))
    assert not any(map(repeats_itself, ["", "ha " * 20, PROSE, "=" * 80, PROSE + "\n" + table, "No. " * 3]))


# --- stopping ---------------------------------------------------------------------------------------------------------


class Halting(Scripted):
    """After `stop` the open rollouts come back with what they had, which looks like an answer."""

    def advance(self):
        """At first they only begin."""
        if self.requests and self.waiting == self.requests and not self.stopped and not self.begun:
            self.begun = True
            return [RolloutStarted(request.stage, request.candidate) for request in self.waiting]
        return super().advance()

    begun = False

    def _rollout(self, request, fields):
        if fields == {"state": "stopped"}:
            fields = {"state": "stopped", "thinking": "try 1", "answer": "1" if request.stage else ""}
        return super()._rollout(request, fields)


@pytest.mark.parametrize("done", [0, 1, 3])
def test_a_stop_shows_what_was_done_and_nothing_else(done):
    seen: list = []
    generator = Halting(lambda request: {"thinking": f"it is {42 + request.candidate}"})
    result = solve(
        generator, QUESTION, PARAMS, on_event=seen.append,
        should_stop=lambda: sum(getattr(getattr(e, "rollout", None), "state", "") == "done" for e in seen) >= done,
    )  # fmt: skip
    assert result.text == (result.choice.answer.text if done and result.choice.answer else "")
    assert result.choice.rollout.state == ("done" if done else "stopped")
    assert not any(isinstance(event, StageFinished) for event in seen)
    assert not result.is_complete


# --- a generator that raises ------------------------------------------------------------------------------------------


def raising(error, *which):
    def script(request):
        if not which or (request.stage, request.candidate) in which:
            raise error
        return {**numbered(request), "thinking": "so it is 42"}

    return script


@pytest.mark.parametrize("which", [[(0, 1)], [(0, 0), (0, 3)], [(1, 2), (2, 0), (2, 1)]])
def test_an_exception_fails_its_rollout_with_its_reason_and_no_other(which):
    result, _ = run(raising(RuntimeError("the pipe burst"), *which))
    failed = [rollout for rollout in result.rollouts if rollout.state == "failed"]
    assert [(rollout.stage, rollout.candidate) for rollout in failed] == which
    assert {rollout.error for rollout in failed} == {"RuntimeError: the pipe burst."}
    assert result.is_complete and result.error is None and result.text
    assert len(result.rollouts) == 12


@pytest.mark.parametrize("error", [UnicodeEncodeError("utf-8", "\udce9", 0, 1, "no"), KeyError("x"), UsageError("No.")])
def test_an_exception_when_a_rollout_is_submitted_is_its_failure(error):
    class Refusing(Scripted):
        def submit(self, request):
            if request.stage == 1 and request.candidate == 2:
                raise error
            super().submit(request)

    result = solve(Refusing(), QUESTION, PARAMS)
    assert [(r.stage, r.candidate) for r in result.rollouts if r.state == "failed"] == [(1, 2)]
    assert result.is_complete


def test_a_generator_that_raises_for_ever_ends():
    class Broken(Scripted):
        def advance(self):
            raise MemoryFitError("The cache is full.")

    with pytest.raises(MemoryFitError, match="full"):
        solve(Broken(), QUESTION, PARAMS)


def test_when_all_raise_the_reasons_are_told():
    with pytest.raises(GenerationError, match="RuntimeError: boom"):
        run(raising(RuntimeError("boom")))

    def different(request):
        raise UsageError("Odd.") if request.candidate % 2 else MemoryFitError("Even.")

    with pytest.raises(ZayaError) as raised:
        run(different)
    assert "Odd." in str(raised.value) and "Even." in str(raised.value)


def test_what_was_done_before_all_raise_is_the_answer_with_the_exception_beside_it():
    result, _ = run(raising(MemoryFitError("No room."), *((1, candidate) for candidate in range(4))))
    assert (result.text, result.error, result.is_complete) == ("42", "No room.", False)
    assert isinstance(result.cause, MemoryFitError)


def test_a_stage_that_failed_is_not_saved_and_can_be_repeated():
    saved: list = []
    run(agreeing_until(1, LATER["fails"]), save=saved.append)
    assert [len(rollouts) for rollouts in saved] == [4]
    again, _ = run(numbered, restored=saved[-1])
    assert again.is_complete and len(again.rollouts) == 12


def test_a_prompt_that_fails_later_leaves_the_answer():
    def picky(question, candidates):
        if any("42" in text for text in candidates):
            raise UsageError("p.jinja, line 2: no.")
        return aggregation_prompt(question, candidates)

    result, _ = run(agreeing_until(9, numbered), prompt=picky)
    assert (result.text, result.is_complete) == ("42", False)
    assert isinstance(result.cause, UsageError)


def test_nothing_at_all_is_an_error():
    with pytest.raises(NetworkError, match="any text"):
        run(lambda request: {})
