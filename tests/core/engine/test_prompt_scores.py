"""Laws of prompt scores: each token's is the model's own, whatever is kept, cut, runs beside it or waits again."""

from __future__ import annotations

import pytest
import torch

from tests.core.engine.test_engine import PLAIN, ask, finished, run, tokens
from zaya_core.engine.engine import Engine
from zaya_core.engine.events import Event, Failed, PromptScored
from zaya_core.errors import CheckpointError, PromptTooLongError, UsageError

LONG = [300 + (7 * n * n) % 90 for n in range(300)]


@pytest.fixture
def engine(model, tokenizer):
    return Engine(model, tokenizer, chunk=128)


def scores(events):
    """All scores of one request; they begin with the second token and leave none out."""
    found = [event for event in events if isinstance(event, PromptScored)]
    position = 1
    for event in found:
        assert event.start == position
        position += len(event.tokens)
    return [token for event in found for token in event.tokens]


def direct(model, ids):
    """(T - 1, V): log-probabilities of what comes after each token, by one pass over all."""
    return torch.log_softmax(model(torch.tensor([ids]))[0, :-1].double(), -1)


@pytest.mark.parametrize("ids", [LONG, PLAIN, LONG[:64], LONG[:65], LONG[:66], LONG[:129], LONG[:2]])
def test_scores_are_those_of_a_direct_computation(engine, model, ids):
    (events,) = run(engine, ask(ids, prompt_logprobs=3, max_tokens=2))
    found, expected = scores(events), direct(model, ids)
    assert [token.token_id for token in found] == ids[1:]
    for token, row in zip(found, expected, strict=True):
        assert token.logprob == pytest.approx(float(row[token.token_id]), abs=1e-5)
        best = row.topk(3)
        assert [id_ for id_, _ in token.top_logprobs] == best.indices.tolist()
        assert [value for _, value in token.top_logprobs] == pytest.approx(best.values.tolist(), abs=1e-5)


def test_a_chosen_token_that_is_the_likeliest_has_its_very_number(engine):
    (answer,) = run(engine, ask(max_tokens=30))
    (events,) = run(engine, ask([*PLAIN, *tokens(answer)], prompt_logprobs=1, max_tokens=0))
    found = scores(events)
    assert all(token.logprob == token.top_logprobs[0][1] for token in found[len(PLAIN) - 1 :])
    assert not all(token.logprob == token.top_logprobs[0][1] for token in found[: len(PLAIN) - 1])


def test_nothing_is_generated_where_nothing_is_asked_for(engine):
    (events,) = run(engine, ask(prompt_logprobs=0, max_tokens=0))
    end = finished(events)
    assert (end.reason, end.stats.completion_tokens, end.stats.prefilled_tokens) == ("length", 0, len(PLAIN))
    assert not tokens(events)
    assert len(scores(events)) == len(PLAIN) - 1
    assert not scores(events)[0].top_logprobs
    (one,) = run(engine, ask(PLAIN[:1], prompt_logprobs=0, max_tokens=0))
    assert scores(one) == []


def test_the_answer_is_that_of_a_request_without_scores(engine, model, tokenizer):
    (plain,) = run(Engine(model, tokenizer, chunk=128), ask(LONG))
    (scored,) = run(engine, ask(LONG, prompt_logprobs=2))
    assert tokens(scored) == tokens(plain)


def test_kept_states_are_not_used_and_scores_are_the_same(engine, model, tokenizer):
    (alone,) = run(engine, ask(LONG, prompt_logprobs=1, snapshot_at=(100, 300)))
    both = run(engine, *[ask(LONG, prompt_logprobs=1, candidate=n) for n in range(2)], ask(LONG, max_tokens=3))
    first, second, before = ([token.logprob for token in scores(events)] for events in (*both[:2], alone))
    assert first == second
    assert first == pytest.approx(before, abs=1e-5)
    assert [finished(events).stats.cached_tokens for events in both] == [0, 0, len(LONG)]


def test_a_prompt_as_long_as_the_context_can_be_scored(model, tokenizer):
    engine = Engine(model, tokenizer, context=len(PLAIN))
    (events,) = run(engine, ask(prompt_logprobs=1, max_tokens=0))
    assert len(scores(events)) == len(PLAIN) - 1
    for wrong in (ask(prompt_logprobs=1), ask([*PLAIN, 1], prompt_logprobs=1, max_tokens=0)):
        with pytest.raises(PromptTooLongError):
            engine.submit(wrong)


def test_an_answer_that_has_begun_cannot_be_scored(engine):
    with pytest.raises(UsageError, match="prompt_logprobs"):
        engine.submit(ask(prompt_logprobs=1, begun=[300]))


def test_a_prompt_that_waits_again_tells_each_score_once(model, tokenizer):
    engine = Engine(model, tokenizer, chunk=128)
    other = engine.submit(ask(LONG[:250], max_tokens=20))
    scored = engine.submit(ask(LONG, prompt_logprobs=1, max_tokens=0))
    events: list[Event] = []
    while not any(isinstance(event, PromptScored) for event in events):
        events += engine.step()
    (row,) = engine._prefilling
    assert row.scored
    engine._wait_again(row)
    events += list(engine.events([other, scored]))
    found = scores([event for event in events if event.request_id == scored])
    assert [token.token_id for token in found] == LONG[1:]
    (alone,) = run(Engine(model, tokenizer, chunk=128), ask(LONG, prompt_logprobs=1, max_tokens=0))
    assert [token.logprob for token in found] == pytest.approx([token.logprob for token in scores(alone)], abs=1e-5)


def test_visited_logits_are_those_of_all_columns_in_turn(model):
    ids, seen = torch.tensor([LONG[:130], LONG[130:260]]), []
    last = model(ids, last_only=True, visit=lambda column, logits: seen.append((column, logits)))
    assert [(column, logits.shape[1]) for column, logits in seen] == [(0, 64), (64, 64), (128, 2)]
    whole = model(ids)
    torch.testing.assert_close(torch.cat([logits for _, logits in seen], 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last, whole[:, -1:], rtol=1e-5, atol=1e-5)
    seen.clear()
    model(ids[:, :1], visit=lambda column, logits: seen.append((column, logits)))
    assert [column for column, _ in seen] == [0]


def test_logits_that_are_no_numbers_end_the_request_alone(engine, monkeypatch):
    logits, calls = engine.model.steps.logits, []

    def damaged(residual):
        calls.append(residual.shape[1])
        return logits(residual) * (torch.nan if residual.shape[1] > 1 else 1.0)

    monkeypatch.setattr(engine.model.steps, "logits", damaged)
    ids = [engine.submit(ask(prompt_logprobs=1)), engine.submit(ask(max_tokens=3))]
    events = list(engine.events(ids))
    (failed,) = [event for event in events if isinstance(event, Failed)]
    assert (failed.request_id, type(failed.error)) == (ids[0], CheckpointError)
    assert max(calls) <= 64
    assert len(tokens(events)) == 3
