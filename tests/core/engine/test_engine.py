"""Laws of the Engine: what it computes does not depend on what else runs, and nothing is computed twice."""

from __future__ import annotations

import pytest
import torch

from zaya_core.engine.engine import Engine, Request
from zaya_core.engine.events import Finished, PrefillProgress, TextEvent, TokenEvent
from zaya_core.errors import PromptTooLongError, UsageError
from zaya_core.sampling.params import SamplingParams
from zaya_core.text.splitter import split_text

GREEDY = SamplingParams(temperature=0)
PLAIN = list(range(300, 340))  # ordinary tokens


@pytest.fixture
def engine(model, tokenizer):
    return Engine(model, tokenizer, chunk=16)


def run(engine, *requests):
    """Events by request, in the order of submission."""
    events = list(engine.generate(requests))
    ids = sorted({event.request_id for event in events})
    return [[event for event in events if event.request_id == id_] for id_ in ids]


def tokens(events):
    return [event.token_id for event in events if isinstance(event, TokenEvent)]


def text(events, kind):
    return "".join(event.text for event in events if isinstance(event, TextEvent) and event.kind == kind)


def finished(events):
    assert isinstance(events[-1], Finished)
    return events[-1]


def ask(ids=PLAIN, **settings):
    return Request(ids=ids, **{"sampling": GREEDY, "max_tokens": 12, "ignore_stop_ids": True, **settings})


def test_greedy_generation_equals_recomputing_everything(engine, model):
    (events,) = run(engine, ask())
    ids = list(PLAIN)
    for token in tokens(events):
        assert token == int(model(torch.tensor([ids]))[0, -1].argmax())
        ids.append(token)
    assert len(ids) == len(PLAIN) + 12


def test_logprobs_equal_those_of_one_prefill_of_prompt_and_answer(engine, model):
    (events,) = run(engine, ask(top_logprobs=3))
    generated = [event for event in events if isinstance(event, TokenEvent)]
    scores = torch.log_softmax(model(torch.tensor([PLAIN + tokens(events)]))[0], -1)
    for position, event in enumerate(generated, len(PLAIN) - 1):
        assert event.logprob == pytest.approx(float(scores[position, event.token_id]), abs=5e-4)
        assert [id_ for id_, _ in event.top_logprobs] == scores[position].topk(3).indices.tolist()


@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(seed=5)])
def test_a_batch_of_sixteen_equals_one_by_one(engine, model, tokenizer, sampling):
    requests = [ask(PLAIN[: 3 + 2 * n], sampling=sampling, candidate=n, max_tokens=5 + n) for n in range(16)]
    together = [tokens(events) for events in run(engine, *requests)]
    alone = [tokens(run(Engine(model, tokenizer, chunk=16), request)[0]) for request in requests]
    assert together == alone


def test_rows_join_and_leave_at_any_step(engine, model, tokenizer):
    requests = [ask(PLAIN[n : n + 20], max_tokens=4 + 3 * n) for n in range(4)]
    found: dict[int, list] = {}
    waiting = list(requests)
    for step in range(200):
        if waiting and step % 5 == 0:
            found[engine.submit(waiting.pop(0))] = []
        for event in engine.step():
            found[event.request_id].append(event)
        if not waiting and engine.is_idle:
            break
    alone = [tokens(run(Engine(model, tokenizer, chunk=16), request)[0]) for request in requests]
    assert [tokens(events) for events in found.values()] == alone


def test_a_step_is_one_chunk_or_one_token_never_both(engine):
    engine.submit(ask(PLAIN[:10]))
    engine.submit(ask(PLAIN[:40][::-1]))
    while not engine.is_idle:
        events = engine.step()
        prefilled = [event for event in events if isinstance(event, PrefillProgress)]
        sampled = [event for event in events if isinstance(event, TokenEvent)]
        assert len(prefilled) <= 1
        assert not prefilled or len(sampled) <= 1


def test_the_same_prompt_is_prefilled_once_for_all_requests(engine, model):
    rows = run(engine, *[ask(candidate=n, sampling=SamplingParams(seed=1)) for n in range(6)])
    assert sum(finished(events).stats.prefilled_tokens for events in rows) == len(PLAIN)
    assert len({tuple(tokens(events)) for events in rows}) > 1


def test_a_common_beginning_is_prefilled_once(engine):
    prompts = [[*PLAIN[:30], 400 + n, 401 + n] for n in range(5)]
    rows = run(engine, *[ask(prompt) for prompt in prompts])
    assert sum(finished(events).stats.prefilled_tokens for events in rows) == 30 + 5 * 2
    stats = [finished(events).stats for events in rows]
    assert all(s.prompt_tokens == s.cached_tokens + s.prefilled_tokens == 32 for s in stats)


def test_a_later_prompt_goes_on_from_a_kept_position(engine, model, tokenizer):
    run(engine, ask(PLAIN[:30], snapshot_at=(25,)))
    longer = PLAIN[:25] + list(range(420, 440))
    (events,) = run(engine, ask(longer))
    assert finished(events).stats.prefilled_tokens == len(longer) - 25
    assert tokens(events) == tokens(run(Engine(model, tokenizer, chunk=16), ask(longer))[0])


def test_a_kept_end_state_serves_a_prompt_that_contains_the_answer(engine, model, tokenizer):
    (events,) = run(engine, ask(keep_state=True))
    longer = PLAIN + tokens(events) + [500, 501]
    (again,) = run(engine, ask(longer))
    assert finished(again).stats.prefilled_tokens == 3  # the last token was chosen, not computed
    assert tokens(again) == tokens(run(Engine(model, tokenizer, chunk=16), ask(longer))[0])


def test_cancelling_a_prefill_stops_it_between_layers_and_harms_no_other_row(engine, model, tokenizer):
    first = engine.submit(ask(PLAIN[:20], max_tokens=20))
    events = [event for _ in range(4) for event in engine.step()]
    second = engine.submit(ask(PLAIN[::-1]))
    events += engine.step()
    engine.cancel(second)
    while not engine.is_idle:
        events += engine.step()
    ends = {event.request_id: event.reason for event in events if isinstance(event, Finished)}
    assert ends == {first: "length", second: "cancelled"}
    mine = tokens([event for event in events if event.request_id == first])
    assert mine == tokens(run(Engine(model, tokenizer, chunk=16), ask(PLAIN[:20], max_tokens=20))[0])
    assert not tokens([event for event in events if event.request_id == second])


def test_cancelling_while_decoding_keeps_what_there_is(engine):
    request = engine.submit(ask(max_tokens=500))
    events = []
    while not engine.is_idle:
        events += engine.step()
        if len(tokens(events)) == 7:
            engine.cancel(request)
    assert finished(events).reason == "cancelled"
    assert len(tokens(events)) == 7


def test_leaving_the_loop_early_cancels_the_rest(engine):
    for event in engine.generate([ask(max_tokens=300), ask(PLAIN[::-1])]):
        if isinstance(event, TokenEvent):
            break
    assert engine.is_idle
    assert tokens(run(engine, ask())[0])


@pytest.mark.parametrize("other_is_cancelled", [False, True])
@pytest.mark.parametrize("left_after", range(8, 14))
def test_a_loop_left_early_swallows_nothing_of_other_requests(engine, left_after, other_is_cancelled):
    mine, other = engine.submit(ask(PLAIN[:9], max_tokens=30)), engine.submit(ask(PLAIN[:20], max_tokens=4))
    events = []
    for event in engine.events([mine]):
        events.append(event)
        if len(events) == left_after:
            break
    if other_is_cancelled:
        engine.cancel(other)
    events += list(engine.events([other]))
    assert engine.is_idle
    others = [event for event in events if event.request_id == other]
    assert sum(isinstance(event, Finished) for event in others) == 1
    stats = finished(others).stats
    assert (stats.completion_tokens, len(tokens(others))) in {(n, n) for n in range(5)}
    assert other_is_cancelled or len(tokens(others)) == 4


def test_an_end_by_cancelling_inside_a_loop_left_early_is_told_by_the_next_step(engine):
    mine, other = engine.submit(ask(PLAIN[:9])), engine.submit(ask(PLAIN[:20]))
    for _ in engine.events([mine]):
        engine.cancel(other)
        break
    assert not engine.is_idle
    (event,) = engine.step()
    assert (event.request_id, event.reason) == (other, "cancelled")
    assert engine.is_idle
    assert not engine.step()


def test_every_block_returns_when_the_engine_is_done(model, tokenizer):
    engine = Engine(model, tokenizer)
    run(engine, *[ask(candidate=n) for n in range(3)])
    engine.prefixes.clear()
    assert engine.states.pool.blocks_in_use == 0


def test_generation_stops_at_106_whatever_the_files_say(engine, tokenizer, monkeypatch):
    assert 106 in tokenizer.stop_ids
    (plain,) = run(engine, ask())
    third = tokens(plain)[2]
    monkeypatch.setattr(tokenizer, "stop_ids", frozenset({third}))
    (events,) = run(engine, ask(ignore_stop_ids=False))
    assert finished(events).reason == "stop"
    assert tokens(events) == tokens(plain)[: tokens(plain).index(third)]


def thinking_prompt(tokenizer):
    return tokenizer.render_chat([{"role": "user", "content": "the cat sat"}])


def test_a_thinking_budget_forces_the_end_of_thinking(engine, tokenizer):
    prompt = thinking_prompt(tokenizer)
    for budget in (0, 1, 5):
        (events,) = run(engine, ask(prompt, thinking_budget=budget, max_tokens=budget + 6))
        assert tokens(events)[budget] == tokenizer.think_end_id
        stats = finished(events).stats
        assert (stats.thinking_tokens, stats.completion_tokens) == (budget + 1, budget + 6)
        assert text(events, "answer")


@pytest.mark.parametrize("cut", [1, 4, 9, 15])
def test_an_answer_that_goes_on_equals_one_that_was_never_stopped(engine, tokenizer, cut):
    """Within the thinking, at its forced end, and within the answer; the state at the cut is taken up."""
    prompt = thinking_prompt(tokenizer)
    settings = {"sampling": SamplingParams(seed=4), "thinking_budget": 7}
    (whole,) = run(engine, ask(prompt, max_tokens=24, **settings))
    (first,) = run(engine, ask(prompt, max_tokens=cut, keep_state=True, **settings))
    (rest,) = run(engine, ask(prompt, begun=tokens(first), max_tokens=24 - cut, **settings))
    assert tokens(first) + tokens(rest) == tokens(whole)
    assert finished(rest).stats.prefilled_tokens == 1
    texts = split_text(tokenizer, prompt, tokens(whole))
    assert texts == {kind: text(whole, kind) for kind in ("thinking", "answer")}
    if cut > 8:
        assert texts["answer"] == text(first, "answer") + text(rest, "answer")


@pytest.mark.parametrize("cut", [3, 8, 9, 12, 14])
def test_the_answer_budget_counts_what_has_begun(engine, tokenizer, cut):
    """Within the thinking, behind it, within the answer, and at the end of the budget: then no token comes."""
    settings = {"sampling": SamplingParams(seed=4), "thinking_budget": 7, "answer_budget": 6, "max_tokens": 24}
    prompt = thinking_prompt(tokenizer)
    (whole,) = run(engine, ask(prompt, **settings))
    assert len(tokens(whole)) == 7 + 1 + 6
    begun = tokens(whole)[:cut]
    (rest,) = run(engine, ask(prompt, begun=begun, **settings))
    assert begun + tokens(rest) == tokens(whole)
    assert finished(rest).reason == finished(whole).reason == "length"
    (more,) = run(engine, ask(prompt, begun=begun, **{**settings, "answer_budget": 8}))
    assert len(begun + tokens(more)) == 7 + 1 + 8


@pytest.mark.parametrize("cut", [3, 8])
def test_an_answer_budget_of_nothing_ends_with_the_thinking_that_has_begun(engine, tokenizer, cut):
    prompt, settings = thinking_prompt(tokenizer), {"thinking_budget": 7, "answer_budget": 0}
    (whole,) = run(engine, ask(prompt, **settings))
    (rest,) = run(engine, ask(prompt, begun=tokens(whole)[:cut], **settings))
    assert tokens(whole)[:cut] + tokens(rest) == tokens(whole)
    assert finished(rest).reason == "stop"


def test_an_answer_budget_of_nothing_without_any_thinking_is_no_token(engine):
    (events,) = run(engine, ask(answer_budget=0))
    assert (finished(events).reason, tokens(events)) == ("stop", [])


@pytest.mark.parametrize("asked", [{}, {"keep_state": True}, {"snapshot_at": (20,)}])
def test_what_had_ended_at_a_stop_string_stays_ended(engine, asked):
    (plain,) = run(engine, ask(max_tokens=40))
    whole = text(plain, "answer")
    stop = whole[len(whole) // 2 : len(whole) // 2 + 4]
    (events,) = run(engine, ask(max_tokens=40, stop=(stop,)))
    (rest,) = run(engine, ask(max_tokens=40, stop=(stop,), begun=tokens(events), **asked))
    end = finished(rest)
    assert (end.reason, end.stopped_by, end.stats.completion_tokens) == ("stop", stop, 0)
    assert not tokens(rest) and not text(rest, "answer")


def test_what_had_ended_at_a_stop_token_stays_ended(engine, tokenizer):
    (stop_id, *_) = sorted(tokenizer.stop_ids)
    for ignore, count in ((False, 0), (True, 12)):
        (events,) = run(engine, ask(begun=[310, stop_id], ignore_stop_ids=ignore))
        assert len(tokens(events)) == count
    assert finished(run(engine, ask(begun=[310, stop_id], ignore_stop_ids=False))[0]).reason == "stop"


def test_the_context_counts_what_has_begun(model, tokenizer):
    engine = Engine(model, tokenizer, context=50)
    (events,) = run(engine, ask(PLAIN, begun=PLAIN[:6], max_tokens=None))
    assert len(tokens(events)) == 4
    with pytest.raises(PromptTooLongError, match="50"):
        engine.submit(ask(PLAIN, begun=PLAIN[:10]))


def test_text_pieces_join_to_the_decoded_tokens(engine, tokenizer):
    (events,) = run(engine, ask(max_tokens=40))
    assert text(events, "answer") == tokenizer.decode(tokens(events)).lstrip("\n")


def test_a_stop_string_across_token_borders_ends_the_answer_before_it(engine, tokenizer):
    (plain,) = run(engine, ask(max_tokens=40))
    whole = text(plain, "answer")
    stop = whole[len(whole) // 2 : len(whole) // 2 + 4]
    (events,) = run(engine, ask(max_tokens=40, stop=(stop,)))
    assert finished(events).reason == "stop"
    assert finished(events).stopped_by == stop
    assert text(events, "answer") == whole[: whole.index(stop)]


def test_the_context_ends_an_answer_with_length(model, tokenizer):
    engine = Engine(model, tokenizer, context=50)
    (events,) = run(engine, ask(PLAIN, max_tokens=None))
    assert finished(events).reason == "length"
    assert len(tokens(events)) == 10


def test_prompts_that_cannot_be_answered_are_refused_at_once(engine, model):
    with pytest.raises(PromptTooLongError, match="600"):
        engine.submit(ask([300] * 600))
    with pytest.raises(UsageError, match="empty"):
        engine.submit(ask([]))
    with pytest.raises(UsageError, match="vocabulary"):
        engine.submit(ask([model.config.vocab_size]))
    with pytest.raises(UsageError, match="max_tokens"):
        engine.submit(ask(max_tokens=0))
    assert engine.is_idle
    with pytest.raises(UsageError):
        list(engine.generate([ask(), ask([])]))
    assert engine.is_idle


def test_the_chunk_size_does_not_change_the_text(model, tokenizer):
    found = {tuple(tokens(run(Engine(model, tokenizer, chunk=chunk), ask())[0])) for chunk in (1, 7, 16, 512)}
    assert len(found) == 1


def test_the_same_seed_gives_the_same_text_and_another_another(model, tokenizer):
    def sample(seed):
        return tokens(run(Engine(model, tokenizer), ask(sampling=SamplingParams(seed=seed)))[0])

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_progress_counts_up_to_the_whole_prompt(engine):
    (events,) = run(engine, ask())
    progress = [event for event in events if isinstance(event, PrefillProgress)]
    assert [event.done for event in progress] == [16, 32, 40]
    assert {event.total for event in progress} == {40}
    stats = finished(events).stats
    assert stats.prompt_tokens_per_second > 0
    assert stats.decode_tokens_per_second > 0
    assert stats.seconds_to_first_token > 0
    assert stats.peak_memory_bytes > 1_000_000


def test_after_an_error_the_engine_is_idle_and_answers_the_next_request(engine, model, tokenizer, monkeypatch):
    class Failing:
        """The model, with one pass that runs out of memory."""

        def __init__(self, passes):
            self.passes = passes

        def __getattr__(self, name):
            return getattr(model, name)

        def __call__(self, *arguments, **settings):
            self.passes -= 1
            if self.passes == 0:
                raise MemoryError
            return model(*arguments, **settings)

    expected = tokens(run(engine, ask(PLAIN[::-1]))[0])
    for passes in (1, 2, 5):  # in the first chunk, in a later one, while decoding
        broken = Engine(Failing(passes), tokenizer, chunk=16)  # type: ignore[arg-type]
        with pytest.raises(MemoryError):
            list(broken.generate([ask(), ask(PLAIN[:20])]))
        assert broken.is_idle
        (events,) = run(broken, ask(PLAIN[::-1]))
        assert tokens(events) == expected


def test_rows_that_run_are_not_silenced_by_prompts_that_wait(engine):
    engine.submit(ask(PLAIN[:10], max_tokens=8))
    engine.step()
    engine.submit(ask([*PLAIN[::-1], *PLAIN]))
    kinds = ["prefill" if any(isinstance(e, PrefillProgress) for e in engine.step()) else "token" for _ in range(6)]
    assert kinds == ["token", "prefill"] * 3
