"""RSA on the Engine, with a tiny random model: what is paid once, what repeats, what ends a rollout."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zaya_core.cache.arrangement import BLOCK
from zaya_core.engine.engine import Engine
from zaya_core.errors import MemoryFitError
from zaya_core.load import load_model
from zaya_core.rsa import RsaParams, solve
from zaya_core.rsa.canary import CHUNK, LoopCanary, compression_ratio
from zaya_core.rsa.local import EngineGenerator
from zaya_core.rsa.rollouts import RolloutMoved, RolloutRequest, RolloutStarted
from zaya_core.rsa.solver import aggregation_messages
from zaya_core.rsa.tails import handed_on, last_tokens, tail_of
from zaya_core.sampling import draw
from zaya_core.sampling.params import RandomKey, SamplingParams

LONG = "Tell me why " + "the sum of two odd numbers is even and " * 5 + "so on?"
QUESTION = [{"role": "user", "content": LONG}]
PARAMS = RsaParams(candidates=4, rounds=1, subset=2, think=12, tail=6, answer=5)
SAMPLING = SamplingParams(top_p=1.0, seed=11)


def texts(result):
    return [(r.stage, r.candidate, r.subset, r.thinking, r.answer, r.tail) for r in result.rollouts]


def run(engine, params=PARAMS, **settings):
    return solve(EngineGenerator(engine), QUESTION, params, SAMPLING, **settings)


def test_rollouts_keep_to_their_budgets(model, tokenizer):
    result = run(Engine(model, tokenizer))
    assert len(result.rollouts) == 8
    for rollout in result.rollouts:
        assert rollout.thinking_tokens <= 12 + 1  # and the marker
        assert rollout.completion_tokens - rollout.thinking_tokens <= (5 if rollout.stage else 0)
        assert rollout.mean_logprob is not None
    assert {rollout.state for rollout in result.rollouts} <= {"cut", "done"}
    assert not any(rollout.answer for rollout in result.rollouts if rollout.stage == 0)


def test_a_tail_is_the_last_tokens_of_the_thought_without_its_end(tokenizer):
    ids = tokenizer.encode("one two three four five")
    assert tail_of([*ids, tokenizer.think_end_id], 3, tokenizer) == tokenizer.decode(ids[-3:])
    assert tail_of(ids, 3, tokenizer) == tokenizer.decode(ids[-3:])
    assert tail_of(ids, 10**6, tokenizer) == tokenizer.decode(ids)
    assert tail_of([tokenizer.think_end_id], 3, tokenizer) == tail_of([], 3, tokenizer) == ""


@pytest.mark.parametrize(
    ("passes", "state", "shown"),
    [("tail", "done", "thought"), ("answer", "done", "answer"), ("auto", "done", "answer"),
     ("answer", "cut", "answer"), ("auto", "cut", "thought")],
)  # fmt: skip
def test_what_is_handed_on_is_the_tail_or_the_answer_of_at_most_so_many_tokens(tokenizer, passes, state, shown):
    texts = {"thought": "it may be that one and two", "answer": "so we have three and four"}
    request = RolloutRequest(0, 0, (), QUESTION, 99, 9, 4, 0, SAMPLING, passes)
    thought = tokenizer.encode(texts["thought"])
    expected = tokenizer.decode(tokenizer.encode(texts[shown])[-4:])
    assert handed_on(request, state, thought, texts["answer"], tokenizer) == expected
    assert handed_on(request, state, thought, " ", tokenizer) == tokenizer.decode(thought[-4:])
    assert handed_on(request, state, [], texts["answer"], tokenizer) == last_tokens(
        tokenizer.encode(texts["answer"]), 4, tokenizer
    )


@pytest.mark.parametrize("passes", ["answer", "auto"])
def test_a_run_that_hands_on_answers_keeps_to_its_budgets_and_repeats(model, tokenizer, passes):
    params = replace(PARAMS, passes=passes)
    first, again = (run(Engine(model, tokenizer), params) for _ in range(2))
    assert texts(first) == texts(again) != texts(run(Engine(model, tokenizer)))
    assert any(rollout.answer for rollout in first.rollouts if rollout.stage == 0)
    for rollout in first.rollouts:
        assert rollout.completion_tokens - rollout.thinking_tokens <= 5
        assert len(tokenizer.encode(rollout.tail)) <= 6


def test_an_engine_that_runs_out_of_memory_fails_its_rollouts_and_keeps_what_was_done(model, tokenizer):
    class Narrow(EngineGenerator):
        """From stage 1 on a step raises."""

        def advance(self):
            if any(row.request.stage for row in self._open.values()):
                self._open.clear()
                raise MemoryFitError("It does not fit.")
            return super().advance()

    result = solve(Narrow(Engine(model, tokenizer)), QUESTION, replace(PARAMS, stop_at=1.0), SAMPLING)
    assert [rollout.error for rollout in result.rollouts if rollout.stage] == ["It does not fit."] * 4
    assert result.text and result.error == "It does not fit."
    assert isinstance(result.cause, MemoryFitError)


@pytest.mark.parametrize("error", [MemoryFitError("It does not fit."), ValueError("no token")])
def test_a_rollout_that_fails_in_the_engine_ends_alone_with_its_reason(model, tokenizer, monkeypatch, error):
    sampled = draw.draw_row

    def faulty(sampling, logits, row):
        if (row.key.stage, row.key.candidate, row.step) == (0, 1, 3):
            raise error
        return sampled(sampling, logits, row)

    monkeypatch.setattr(draw, "draw_row", faulty)
    result = run(Engine(model, tokenizer))
    states = {(rollout.stage, rollout.candidate): rollout.state for rollout in result.rollouts}
    assert [key for key, state in states.items() if state == "failed"] == [(0, 1)]
    assert len(states) == PARAMS.stages * PARAMS.candidates
    failed = next(rollout for rollout in result.rollouts if rollout.state == "failed")
    assert str(error) in failed.error
    assert result.is_complete and result.error is None


def test_when_all_rollouts_fail_the_exception_behind_it_is_raised(model, tokenizer, monkeypatch):
    def faulty(*_):
        raise MemoryFitError("It does not fit.")

    monkeypatch.setattr(draw, "draw_row", faulty)
    engine = Engine(model, tokenizer)
    with pytest.raises(MemoryFitError, match="It does not fit"):
        run(engine)
    assert engine.is_idle


@pytest.mark.parametrize("seed", range(5))
def test_a_tail_of_any_tokens_encodes_to_no_more(tokenizer, seed):
    key = RandomKey(seed)
    ids = [int(key.uniform(step) * 704) for step in range(300)]
    for tokens in (1, 7, 60):
        assert len(tokenizer.encode(last_tokens(ids, tokens, tokenizer))) <= tokens


def test_the_question_is_prefilled_once_for_all_stages(model, tokenizer):
    generator = EngineGenerator(Engine(model, tokenizer))
    sizes = generator.measure(QUESTION, aggregation_messages(QUESTION, ["", ""]))
    result = solve(generator, QUESTION, PARAMS, SAMPLING)
    first = [rollout for rollout in result.rollouts if rollout.stage == 0]
    assert sorted(rollout.cached_tokens for rollout in first) == [0, *[sizes.question] * 3]
    assert sizes.shared > 40
    assert all(rollout.cached_tokens >= sizes.shared for rollout in result.rollouts if rollout.stage)


def test_forks_of_the_question_share_its_blocks(model, tokenizer):
    long = [{"role": "user", "content": "x " * 280}]
    engine = Engine(model, tokenizer)
    pool = engine.states.pool
    generator = EngineGenerator(engine)
    params = RsaParams(candidates=8, rounds=0, think=10, tail=5, answer=5)
    sizes, most = generator.measure(long, long), 0

    class Watching(EngineGenerator):
        def advance(self):
            nonlocal most
            events = super().advance()
            most = max(most, pool.blocks_in_use * pool.layout.bytes_per_block)
            return events

    solve(Watching(engine), long, params, SAMPLING)
    full, blocks = sizes.question // BLOCK, -(-(sizes.question + 16) // BLOCK)
    assert full >= 1
    of_block = pool.layout.bytes_per_block
    dense = 8 * blocks * of_block
    shared = (full + 8 * (blocks - full) + 2 * (blocks - full)) * of_block  # and the kept prefixes' own
    assert most <= shared < dense


def test_the_same_seed_gives_the_same_run_and_another_another(model, tokenizer):
    first, again = (run(Engine(model, tokenizer)) for _ in range(2))
    assert texts(first) == texts(again)
    other = solve(EngineGenerator(Engine(model, tokenizer)), QUESTION, PARAMS, SamplingParams(top_p=1.0, seed=12))
    assert texts(first) != texts(other)


def test_an_engine_that_has_answered_before_gives_the_same_run(model, tokenizer):
    engine = Engine(model, tokenizer)
    assert texts(run(engine)) == texts(run(engine))


def test_a_run_restored_after_a_stage_goes_on_to_the_same_texts_bit_for_bit(model, tokenizer):
    saved: list = []
    whole = run(Engine(model, tokenizer), save=saved.append)
    restored = run(Engine(model, tokenizer), restored=saved[0])
    assert texts(restored) == texts(whole)
    likelihoods = [[rollout.mean_logprob for rollout in result.rollouts] for result in (whole, restored)]
    assert likelihoods[0] == likelihoods[1]


@pytest.mark.parametrize("rows", [1, 3])
def test_fewer_rows_at_once_give_the_same_texts(model, tokenizer, rows):
    assert texts(run(Engine(model, tokenizer, max_rows=rows))) == texts(run(Engine(model, tokenizer)))


def test_a_pool_too_small_for_all_candidates_gives_the_same_texts(folder, tokenizer):
    params = RsaParams(candidates=3, rounds=0, think=470, tail=8, answer=5)
    question = [{"role": "user", "content": "x " * 40}]
    runs = []
    moved: list = []
    for blocks in (None, 5):
        model = load_model(folder, device="cpu")
        moved.clear()
        generator = EngineGenerator(Engine(model, tokenizer, max_blocks=blocks))
        runs.append(texts(solve(generator, question, params, SamplingParams(top_p=1.0), on_event=moved.append)))
    assert runs[0] == runs[1]
    assert any(isinstance(event, RolloutMoved) for event in moved)


def test_stopping_ends_the_open_rollouts_and_leaves_the_engine_idle(model, tokenizer):
    engine = Engine(model, tokenizer)
    seen: list = []
    params = RsaParams(candidates=4, rounds=1, subset=2, think=60, tail=6, answer=5)
    result = run(engine, params, on_event=seen.append, should_stop=lambda: sum(map(has_started, seen)) >= 2)
    assert engine.is_idle
    assert not result.is_complete
    assert {rollout.state for rollout in result.rollouts} == {"stopped"}
    assert any(rollout.thinking for rollout in result.rollouts)


def has_started(event):
    return isinstance(event, RolloutStarted)


# --- the canary -------------------------------------------------------------------------------------------------------


def random_ids(count):
    key = RandomKey(1)
    return [int(key.uniform(step) * 262_272) for step in range(count)]


@pytest.mark.parametrize("period", [1, 2, 10, 20])
def test_a_loop_kills_the_canary(period):
    canary = LoopCanary()
    ids = [*random_ids(700), *random_ids(period) * (8000 // period)]
    deaths = [at for at, id_ in enumerate(ids) if canary.add(id_)]
    assert deaths
    assert deaths[0] < 3 * CHUNK


def test_text_does_not_kill_it():
    words = random_ids(300)  # as repetitive as prose: a small vocabulary, used at random
    key = RandomKey(2)
    ids = [words[int(300 * key.uniform(step) ** 3)] for step in range(20 * CHUNK)]
    canary = LoopCanary()
    assert not any(canary.add(id_) for id_ in ids)
    assert compression_ratio(ids[:CHUNK]) > 0.2


def test_a_degenerate_rollout_is_stopped_and_named(model, tokenizer, monkeypatch):
    monkeypatch.setattr("zaya_core.rsa.canary.CHUNK", 8)
    monkeypatch.setattr("zaya_core.rsa.canary.LEAST_RATIO", 10.0)
    result = run(Engine(model, tokenizer))
    assert {rollout.state for rollout in result.rollouts} == {"loop"}
    assert all(rollout.completion_tokens <= 9 for rollout in result.rollouts)
