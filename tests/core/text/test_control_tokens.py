"""Control tokens in a generation: no penalty changes them, and a thought amid an answer is counted as a thought."""

from __future__ import annotations

import pytest
import torch

from zaya_core.engine.engine import Engine, Request
from zaya_core.engine.events import Finished, TextEvent, ThinkingEnded, TokenEvent
from zaya_core.sampling import draw
from zaya_core.sampling.draw import Drawn
from zaya_core.sampling.logits import penalise_repetition
from zaya_core.sampling.params import SamplingParams


@pytest.mark.parametrize("begun", [False, True], ids=["in the prompt", "generated"])
def test_a_penalty_passes_control_tokens_by(begun, model, tokenizer):
    """A penalty below 1 favours what was seen, here control tokens only, so that it would choose one of them."""
    control = sorted(tokenizer.control_ids)
    assert {tokenizer.think_start_id, tokenizer.think_end_id, 106} <= set(control)
    logits = model(torch.tensor([control]))[0, -1]
    assert int(penalise_repetition(logits, torch.tensor(control), 0.01).argmax()) != int(logits.argmax())
    ids, rest = (control[:1], control[1:]) if begun else (control, [])
    sampling = SamplingParams(temperature=0, repetition_penalty=0.01)
    request = Request(ids=ids, begun=rest, sampling=sampling, max_tokens=1, ignore_stop_ids=True)
    (chosen,) = [e.token_id for e in Engine(model, tokenizer).generate([request]) if isinstance(e, TokenEvent)]
    assert chosen == int(logits.argmax())


def generate(monkeypatch, model, tokenizer, script, **limits):
    """What comes of these tokens, one after the other."""
    token = lambda row: script[row.step] if row.forced is None else row.forced  # noqa: E731
    monkeypatch.setattr(draw, "draw_row", lambda _, __, row: Drawn(token(row), 0.0))
    prompt = [*tokenizer.encode("hi"), tokenizer.think_start_id, tokenizer.think_end_id]
    events = list(Engine(model, tokenizer).generate([Request(ids=prompt, max_tokens=30, **limits)]))
    texts = {
        kind: "".join(event.text for event in events if isinstance(event, TextEvent) and event.kind == kind)
        for kind in ("thinking", "answer")
    }
    ended = [event for event in events if isinstance(event, ThinkingEnded)]
    assert isinstance(events[-1], Finished)
    return texts, ended, events[-1].stats


def test_a_thought_in_the_middle_of_an_answer_is_told_and_counted(monkeypatch, model, tokenizer):
    start, end = tokenizer.think_start_id, tokenizer.think_end_id
    hello, thought, answer = (tokenizer.encode(text) for text in ("Hello", "so it is", "\n\nAnswer"))
    script = [*hello, start, *thought, end, end, *answer, 106]
    texts, (ended,), stats = generate(monkeypatch, model, tokenizer, script)
    assert texts == {"thinking": "so it is", "answer": "Hello\n\nAnswer"}
    assert ended.tokens == stats.thinking_tokens == len(thought) + 1
    assert stats.completion_tokens == len(script)


def test_a_budget_ends_a_thought_that_begins_late(monkeypatch, model, tokenizer):
    thought = tokenizer.encode("so it is and so it goes")
    script = [*tokenizer.encode("a"), tokenizer.think_start_id, *thought, 106]
    _, (ended,), stats = generate(monkeypatch, model, tokenizer, script, thinking_budget=2)
    assert (ended.was_cut, ended.tokens, stats.thinking_tokens) == (True, 3, 3)
