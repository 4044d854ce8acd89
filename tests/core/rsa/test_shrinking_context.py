"""A context that turns out to be smaller while a run is on its way: what was not run starts again with less."""

from __future__ import annotations

from tests.core.rsa.scripted import Scripted, numbered
from zaya_core.rsa import RsaParams, solve
from zaya_core.rsa.events import BudgetsShrank
from zaya_core.rsa.rollouts import RolloutReturned
from zaya_core.sampling.params import SamplingParams

QUESTION = [{"role": "user", "content": "What is 1 + 1?"}]
PARAMS = RsaParams(candidates=3, rounds=1, subset=2, think=600, tail=400, answer=200)
CONTEXT = 700  # of 1,600 and the prompt that were asked for


class Shrinking(Scripted):
    """Knows its context by the first rollout of a stage on; what was fitted to the larger one is handed back."""

    shrinks_at = 0

    def advance(self):
        request = self.waiting[0]
        if request.stage == self.shrinks_at:
            self.context = CONTEXT
        if self.context == CONTEXT and request.think == PARAMS.think:
            self.waiting.pop(0)
            return [RolloutReturned(request.stage, request.candidate)]
        return super().advance()


def run(stage):
    generator = Shrinking(script=numbered)
    events: list = []
    generator.shrinks_at = stage
    result = solve(generator, QUESTION, PARAMS, SamplingParams(top_p=1.0, seed=7), on_event=events.append)
    return result, generator, [event for event in events if isinstance(event, BudgetsShrank)]


def test_rollouts_that_were_handed_back_start_again_with_budgets_that_fit():
    result, generator, (shrank,) = run(stage=0)
    again = [request for request in generator.requests if request.think < PARAMS.think]
    assert result.is_complete and len(result.rollouts) == 6
    assert len(generator.requests) == 9 and len(again) == 6
    assert (shrank.asked, shrank.params, shrank.context) == (PARAMS, result.params, CONTEXT)
    assert all(2 * request.tail + request.think + request.answer < CONTEXT for request in again)


def test_tails_of_an_earlier_stage_are_cut_in_proportion():
    result, generator, _ = run(stage=1)
    share = result.params.tail / PARAMS.tail
    first = next(rollout for rollout in result.rollouts if rollout.stage == 0)
    assert first.thinking.endswith(first.tail)
    assert 0 < len(first.tail) <= share * len(first.thinking) + 1
    assert first.tail in generator.requests[-1].messages[0]["content"]
