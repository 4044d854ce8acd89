"""Markovian RSA against a script: stages, prompts, subsets, tails, failures, ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from tests.core.rsa.scripted import Scripted, numbered
from zaya_core.errors import NetworkError, PromptTooLongError, UsageError
from zaya_core.rsa import RsaParams, aggregation_prompt, solve
from zaya_core.rsa.events import RunStarted, StageFinished
from zaya_core.rsa.params import PRESETS, PromptSizes, fit_to_context
from zaya_core.rsa.prompt import candidates_prompt
from zaya_core.rsa.rollouts import Rollout
from zaya_core.rsa.solver import Solver, subset_order
from zaya_core.sampling.params import SamplingParams

QUESTION = [{"role": "system", "content": "Be exact."}, {"role": "user", "content": "What is 1 + 1?"}]
SMALL = RsaParams(candidates=5, rounds=2, subset=3, think=100, tail=4, answer=20)


def run(params=SMALL, script=numbered, seed=7, shuffle=None, **settings):
    generator = Scripted(script, shuffle)
    result = solve(generator, QUESTION, params, SamplingParams(top_p=1.0, seed=seed), **settings)
    return result, generator


def shape(result):
    return [(rollout.stage, rollout.candidate, rollout.subset) for rollout in result.rollouts]


@pytest.mark.parametrize(("n", "t", "c"), [(5, 2, 3), (5, 0, 3), (5, 2, 1), (1, 3, 4), (2, 1, 4), (8, 3, 4)])
def test_t_rounds_are_t_plus_1_stages_of_n_rollouts_each(n, t, c):
    result, generator = run(RsaParams(candidates=n, rounds=t, subset=c, think=50, tail=4, answer=9))
    assert Counter(request.stage for request in generator.requests) == dict.fromkeys(range(t + 1), n)
    assert len(result.rollouts) == n * (t + 1)
    assert all(len(r.subset) == (0 if r.stage == 0 else min(c, n)) for r in generator.requests)
    assert result.is_complete
    assert result.stage == t


def test_the_first_stage_asks_the_plain_question_and_later_ones_show_the_tails_of_the_stage_before():
    _, generator = run()
    for request in generator.requests:
        tails = [" ".join(f"s{request.stage - 1}c{other}w{word}" for word in range(6, 10)) for other in request.subset]
        expected = aggregation_prompt("What is 1 + 1?", tails) if request.stage else "What is 1 + 1?"
        assert request.messages[0] == QUESTION[0]
        assert request.messages[1] == {"role": "user", "content": expected}


def test_only_the_last_stage_answers():
    _, generator = run()
    assert {(request.stage, request.answer) for request in generator.requests} == {(0, 0), (1, 0), (2, 20)}
    assert {request.think for request in generator.requests} == {100}


def test_each_candidate_draws_its_own_tails_without_replacement_in_canonical_order():
    _, generator = run(RsaParams(candidates=16, rounds=1, subset=4))
    subsets = [request.subset for request in generator.requests if request.stage == 1]
    assert all(list(subset) == sorted(set(subset)) for subset in subsets)
    assert len(set(subsets)) > 10


def test_subsets_are_uniform_and_keyed_by_seed_stage_and_candidate():
    counts = Counter(other for seed in range(300) for other in subset_order(seed, 1, 0, 8)[:4])
    assert all(110 < counts[other] < 190 for other in range(8))  # 150 expected, standard deviation 8.7
    orders = {tuple(subset_order(seed, stage, candidate, 8)) for seed, stage, candidate in [
        (0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, 1)]}  # fmt: skip
    assert len(orders) == 4
    assert subset_order(3, 1, 2, 8) == subset_order(3, 1, 2, 8)


@pytest.mark.parametrize("pipelined", [False, True])
def test_the_result_depends_on_the_seed_and_not_on_who_ends_first(pipelined):
    params = RsaParams(candidates=6, rounds=3, subset=2, pipelined=pipelined)
    results = [run(params, shuffle=shuffle)[0] for shuffle in (None, 1, 2, 3)]
    assert len({tuple(shape(result)) for result in results}) == 1
    assert len({result.text for result in results}) == 1
    assert shape(run(params, seed=8)[0]) != shape(results[0])


def test_a_pipelined_candidate_starts_when_its_own_tails_exist():
    params = RsaParams(candidates=6, rounds=1, subset=2)
    for pipelined in (False, True):
        generator = Scripted(shuffle=5)
        ended: list[int] = []
        starts: dict[int, int] = {}

        def note(event, ended=ended, starts=starts):
            rollout = getattr(event, "rollout", None)
            if rollout is not None and rollout.stage == 0:
                ended.append(rollout.candidate)
            elif getattr(event, "stage", None) == 1 and hasattr(event, "candidate"):
                starts.setdefault(event.candidate, len(ended))

        submit = generator.submit
        submitted: dict[int, int] = {}

        def noting(request, submit=submit, submitted=submitted, ended=ended):
            if request.stage == 1:
                submitted[request.candidate] = len(ended)
                assert set(request.subset) <= set(ended)
            submit(request)

        generator.submit = noting  # type: ignore[method-assign]
        solve(generator, QUESTION, RsaParams(**{**vars(params), "pipelined": pipelined}), on_event=note)
        assert (min(submitted.values()) < 6) == pipelined


def failing(*which, state="failed"):
    def script(request):
        if (request.stage, request.candidate) in which:
            return {"state": state, "error": "The server fell over."}
        return numbered(request)

    return script


@pytest.mark.parametrize("pipelined", [False, True])
def test_a_failed_rollout_is_passed_over(pipelined):
    params = RsaParams(candidates=5, rounds=1, subset=3, pipelined=pipelined)
    result, generator = run(params, failing((0, 1), (0, 4), (1, 0)))
    assert {request.subset for request in generator.requests if request.stage == 1} == {(0, 2, 3)}
    assert result.choice.total == 5
    assert result.choice.rollout.candidate != 0
    assert result.error is None


def test_fewer_sound_tails_than_wanted_are_enough():
    _, generator = run(RsaParams(candidates=5, rounds=1, subset=4), failing((0, 0), (0, 1), (0, 2)))
    assert {request.subset for request in generator.requests if request.stage == 1} == {(3, 4)}


def test_when_all_of_a_later_stage_fail_what_was_there_is_the_answer_and_the_error_is_told():
    def script(request):
        fields = numbered(request)
        return {"state": "failed", "error": "Gone."} if request.stage else {**fields, "thinking": "so it is 42"}

    result, generator = run(script=script)
    assert {request.stage for request in generator.requests} == {0, 1}
    assert (result.text, result.error, result.is_complete, result.stage) == ("42", "Gone.", False, 0)


def test_when_everything_fails_the_reason_is_raised():
    with pytest.raises(NetworkError, match="Gone"):
        run(script=lambda request: {"state": "failed", "error": "Gone."})


def test_loops_are_shown_to_others_only_where_there_is_nothing_else():
    def loops(request):
        return {**numbered(request), "state": "loop" if request.candidate < 3 else "done"}

    _, generator = run(RsaParams(candidates=5, rounds=1, subset=4), loops)
    assert {request.subset for request in generator.requests if request.stage == 1} == {(3, 4)}
    _, generator = run(
        RsaParams(candidates=3, rounds=1, subset=2),
        lambda request: {**numbered(request), "state": "done" if request.stage else "loop"},
    )
    assert all(len(request.subset) == 2 for request in generator.requests if request.stage == 1)


def test_a_thought_that_the_budget_cut_still_gives_its_tail():
    _, generator = run(script=lambda request: {**numbered(request), "state": "cut"})
    assert len(generator.requests) == 15


def test_stopping_uses_the_latest_of_each_candidate():
    seen: list = []

    def script(request):
        return {**numbered(request), "thinking": f"stage {request.stage}: x = {10 + request.stage}"}

    result, _ = run(script=script, on_event=seen.append, should_stop=lambda: sum(map(ends, seen)) >= 7)
    assert not result.is_complete
    assert (result.text, result.choice.agreeing, result.choice.total) == ("10", 3, 5)
    assert Counter(rollout.state for rollout in result.rollouts) == {"done": 7, "stopped": 3}


def ends(event):
    return getattr(getattr(event, "rollout", None), "state", None) == "done"


def test_a_share_that_agrees_ends_the_run():
    def script(request):
        return {
            **numbered(request),
            "answer": "\\boxed{7}" if request.stage == 1 else f"\\boxed{{{request.candidate}}}",
        }

    result, generator = run(RsaParams(candidates=8, rounds=3, subset=2, stop_at=0.5), script)
    assert all(request.answer for request in generator.requests)
    assert (result.stage, result.text, result.choice.total) == (1, "\\boxed{7}", 8)
    assert result.is_complete
    assert {request.stage for request in generator.requests} == {0, 1}


def test_aggregate_adds_one_rollout_over_the_last_round():
    result, generator = run(RsaParams(candidates=5, rounds=1, subset=3, select="aggregate"))
    assert Counter(request.stage for request in generator.requests) == {0: 5, 1: 5, 2: 1}
    assert len(generator.requests[-1].subset) == 3
    assert result.choice.rollout.stage == 2


def test_stages_are_reported_and_saved_and_a_restored_run_gives_the_same():
    seen: list = []
    saved: list = []
    result, _ = run(on_event=seen.append, save=saved.append)
    assert isinstance(seen[0], RunStarted)
    assert [event.stage for event in seen if isinstance(event, StageFinished)] == [0, 1, 2]
    assert [len(rollouts) for rollouts in saved] == [5, 10, 15]
    for rollouts in saved:
        again, generator = run(restored=rollouts)
        assert len(generator.requests) == 15 - len(rollouts)
        assert shape(again) == shape(result)
        assert again.text == result.text


def test_the_schedule_is_worked_out_when_something_has_changed_and_each_order_once(monkeypatch):
    params = RsaParams(candidates=5, rounds=2, subset=3, pipelined=True)
    orders: list = []

    def counted(seed, stage, candidate, width):
        orders.append((stage, candidate))
        return subset_order(seed, stage, candidate, width)

    monkeypatch.setattr("zaya_core.rsa.solver.subset_order", counted)
    asked: list = []
    subset = Solver._subset

    def noted(*key):
        asked.append(key)
        return subset(*key)

    monkeypatch.setattr(Solver, "_subset", noted)
    solver = Solver(QUESTION, params, SamplingParams(top_p=1.0, seed=7))
    assert len(solver.ready()) == 5
    first = len(asked)
    assert first and not any(solver.ready() for _ in range(9)) and len(asked) == first  # steps without an end
    for number in range(5):
        solver.take(Rollout(0, number, (), 7, "done", tail="x"))
        solver.ready()
    assert len(asked) > first
    assert len(orders) == len(set(orders)) == 10


def test_what_is_handed_back_or_shrinks_is_worked_out_again():
    solver = Solver(QUESTION, SMALL, SamplingParams(top_p=1.0, seed=7))
    handed = solver.ready()
    solver.hand_back(0, 3)
    assert solver.ready() == [handed[3]] and solver.ready() == []
    solver.hand_back(0, 2)
    solver.shrink(replace(SMALL, think=50))
    assert [(request.candidate, request.think) for request in solver.ready()] == [(2, 50)]


@pytest.mark.parametrize("messages", [[], [{"role": "assistant", "content": "x"}], [{"role": "user", "content": " "}]])
def test_there_must_be_a_question(messages):
    generator = Scripted()
    generator.measure = lambda *_: PromptSizes(1, 1, 1)  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="question"):
        solve(generator, messages, SMALL)


# --- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [300, 1000, 4096, 40_000, 200_000])
@pytest.mark.parametrize("params", [RsaParams(), RsaParams(candidates=1), RsaParams(rounds=0), *PRESETS.values()])
def test_what_fits_fills_the_context_and_never_exceeds_it(context, params):
    sizes = PromptSizes(question=40, aggregation=100, shared=30)
    fitted = fit_to_context(params, sizes, context)
    tails = 0 if params.rounds == 0 else params.tails
    needed = (100 if tails else 40) + tails * fitted.tail + fitted.think + fitted.answer
    assert needed <= context
    wanted = (100 if tails else 40) + 2 * tails + tails * params.tail + params.think + params.answer
    assert (fitted == params) == (wanted <= context)
    assert wanted <= context or needed > 0.8 * context
    assert fitted.tail <= params.tail and fitted.think <= params.think and fitted.answer <= params.answer


def test_a_tail_is_never_longer_than_the_thought():
    assert fit_to_context(RsaParams(think=100, tail=500), PromptSizes(10, 20, 5), 10**5).tail == 100


def test_only_a_question_that_leaves_no_room_is_refused():
    with pytest.raises(PromptTooLongError, match="3,950"):
        fit_to_context(RsaParams(), PromptSizes(3950, 4010, 3900), 4096)


def test_budgets_below_the_least_are_kept_as_they_are():
    params = RsaParams(candidates=2, rounds=1, subset=2, think=5, tail=3, answer=2)
    assert fit_to_context(params, PromptSizes(10, 20, 5), 1000) == params


@pytest.mark.parametrize(
    "wrong",
    [{"candidates": 0}, {"rounds": -1}, {"subset": 0}, {"think": 0}, {"tail": 0}, {"answer": 0}, {"stop_at": 0.0},
     {"stop_at": 1.5}, {"select": "best"}, {"passes": "both"}, {"candidates": 2.5}, {"think": True}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong)).replace("_", "-")):
        RsaParams(**wrong)


def test_the_report_s_presets():
    shapes = {name: (p.candidates, p.subset, p.rounds, p.think, p.tail) for name, p in PRESETS.items()}
    assert shapes == {
        "light": (8, 4, 2, 8192, 4096),
        "default": (16, 4, 2, 16_384, 4096),
        "high": (16, 4, 2, 40_960, 4096),
        "xhigh": (32, 4, 8, 32_768, 4096),
    }


# --- what is handed on, and how ---------------------------------------------------------------------------------------


def test_handing_on_answers_takes_an_answer_in_every_stage():
    for passes in ("answer", "auto"):
        _, generator = run(RsaParams(candidates=3, rounds=2, subset=2, think=100, tail=8, answer=20, passes=passes))
        assert {(request.stage, request.answer) for request in generator.requests} == {(0, 8), (1, 8), (2, 20)}
        assert {request.passes for request in generator.requests} == {passes}
    assert RsaParams(candidates=3, rounds=1, think=100, tail=8, answer=20, passes="auto").most_tokens == 3 * 228


def test_the_last_attempt_over_all_has_its_own_sampling():
    own = SamplingParams(temperature=0.6, top_p=0.95, top_k=40, seed=7)
    params = RsaParams(candidates=3, rounds=1, subset=2, select="aggregate")
    _, generator = run(params, last_sampling=own)
    assert [request.stage for request in generator.requests if request.sampling == own] == [2]
    _, generator = run(params)
    assert {request.sampling for request in generator.requests} == {SamplingParams(top_p=1.0, seed=7)}


def test_other_models_are_shown_the_problem_the_candidates_and_the_task():
    one, several = (candidates_prompt("What is 1 + 1?", texts) for texts in (["It is 3."], [" It is 3.\n", "2"]))
    assert several.startswith("What is 1 + 1?\n\n# Candidate solutions (each may be wrong")
    assert several.index("## Candidate 1\nIt is 3.\n\n") < several.index("## Candidate 2\n2\n\n")
    for prompt in (one, several):
        assert prompt.endswith("End with the final answer in \\boxed{}.")
    assert "2" not in one and "differ" not in one
    with pytest.raises(ValueError, match="at least one"):
        candidates_prompt("?", [])


def test_the_wording_of_a_run_is_used_in_its_later_stages():
    _, generator = run(prompt=candidates_prompt)
    contents = [request.messages[-1]["content"] for request in generator.requests if request.stage]
    assert all(content.startswith("What is 1 + 1?\n\n# Candidate solutions") for content in contents)
