"""Laws of penalties by count and of biases in the Engine: they choose, of what was generated, and score nothing."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tests.core.engine.test_engine import PLAIN, ask, run, tokens
from zaya_core.engine.engine import Engine
from zaya_core.engine.events import TokenEvent
from zaya_core.sampling.params import SamplingParams


@pytest.fixture
def engine(model, tokenizer):
    return Engine(model, tokenizer, chunk=16)


@pytest.mark.parametrize(("presence", "frequency"), [(2.0, 0.0), (0.0, 1.5), (1.0, 0.5), (-2.0, -2.0)])
def test_greedy_answers_are_those_of_the_definition(engine, model, tokenizer, presence, frequency):
    params = SamplingParams(temperature=0, presence_penalty=presence, frequency_penalty=frequency)
    bias = {PLAIN[0]: 1.5, PLAIN[1]: -3.0}
    (events,) = run(engine, ask(sampling=params, logit_bias=bias, max_tokens=30))
    ids, counts = list(PLAIN), Counter[int]()
    for event in [event for event in events if isinstance(event, TokenEvent)]:
        logits = model(torch.tensor([ids]))[0, -1].clone()
        scores = torch.log_softmax(logits, 0)
        for id_, added in bias.items():
            logits[id_] += added
        for id_, count in counts.items():
            logits[id_] -= frequency * count + presence
        assert event.token_id == int(logits.argmax())
        assert event.logprob == pytest.approx(float(scores[event.token_id]), abs=5e-4)
        ids.append(event.token_id)
        counts[event.token_id] += event.token_id not in tokenizer.unpenalised_ids
    assert len(ids) == len(PLAIN) + 30


def test_a_bias_of_minus_100_never_chooses_a_token_and_one_of_100_always(engine):
    (plain,) = run(engine, ask())
    banned = dict.fromkeys(tokens(plain), -100)
    (events,) = run(engine, ask(logit_bias=banned))
    assert set(tokens(events)).isdisjoint(banned)
    (events,) = run(engine, ask(logit_bias={PLAIN[3]: 100}, sampling=SamplingParams(seed=3)))
    assert tokens(events) == [PLAIN[3]] * 12


def test_what_was_begun_counts_as_generated_and_the_prompt_does_not(engine):
    params = SamplingParams(temperature=0, frequency_penalty=1.0, presence_penalty=0.5)
    (whole,) = run(engine, ask(sampling=params, max_tokens=20))
    (rest,) = run(engine, ask(sampling=params, max_tokens=12, begun=tokens(whole)[:8]))
    assert tokens(rest) == tokens(whole)[8:]


def test_a_row_with_penalties_beside_others_changes_none_of_them(engine, model, tokenizer):
    requests = [ask(sampling=SamplingParams(seed=1), candidate=n) for n in range(3)]
    alone = [tokens(run(Engine(model, tokenizer, chunk=16), request)[0]) for request in requests]
    fined = ask(sampling=SamplingParams(seed=1, frequency_penalty=2.0), logit_bias={PLAIN[5]: 20.0})
    together = [tokens(events) for events in run(engine, *requests, fined)]
    assert together[:3] == alone
    assert together[3] == tokens(run(Engine(model, tokenizer, chunk=16), fined)[0])
