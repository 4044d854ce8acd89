"""The bundled model answers, and the whole chain from template to text works on it."""

from __future__ import annotations

import pytest
import torch

import zaya_core
from demo.evaluate import BUNDLED
from demo.problems import held_out
from demo.rollouts import boxed_answer
from quant.kernels.resolve import cpu_products
from zaya_core import Engine, Request, SamplingParams
from zaya_core.engine.events import Finished, TextEvent, ThinkingEnded, TokenEvent
from zaya_core.kernels.layer import has_prompt_attention
from zaya_core.kernels.native import NativeSteps

GREEDY = SamplingParams(temperature=0)
LONGEST = 200


@pytest.fixture(scope="module")
def model():
    return zaya_core.load_model(BUNDLED, device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer():
    return zaya_core.load_tokenizer(BUNDLED)


@pytest.fixture
def engine(model, tokenizer):
    return Engine(model, tokenizer, max_rows=16)


def ask(tokenizer, *messages, **settings):
    """A greedy request for a chat whose turns alternate, the user's first."""
    chat = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(messages)]
    ids = tokenizer.render_chat(chat)
    asked = tokenizer.render_chat(chat, add_generation_prompt=False)
    return Request(ids, GREEDY, **{"max_tokens": LONGEST, "snapshot_at": (len(asked),), **settings})


def run(engine, request):
    return list(engine.generate([request]))


def text(events, kind):
    return "".join(event.text for event in events if isinstance(event, TextEvent) and event.kind == kind)


def end(events):
    return next(event for event in events if isinstance(event, Finished))


def tokens(events):
    return [event.token_id for event in events if isinstance(event, TokenEvent)]


@pytest.fixture(scope="module")
def at_once(model, tokenizer):
    """What became of each of 24 problems, sixteen at a time."""
    events = list(Engine(model, tokenizer, max_rows=16).generate([ask(tokenizer, p.question) for p in held_out(24)]))
    order = sorted({event.request_id for event in events})
    return [[event for event in events if event.request_id == number] for number in order]


def test_it_answers_most_problems_it_has_never_seen(at_once):
    answers = [boxed_answer(text(events, "answer")) for events in at_once]
    assert sum(answer == str(p.answer) for answer, p in zip(answers, held_out(24), strict=True)) >= 14


def test_thinking_and_answer_are_told_apart(engine, tokenizer):
    events = run(engine, ask(tokenizer, "What is 12+7?"))
    assert text(events, "thinking").strip() == "12+7=19"
    assert text(events, "answer").strip() == "\\boxed{19}"
    assert sum(isinstance(event, ThinkingEnded) for event in events) == 1
    assert end(events).reason == "stop"


def test_text_arrives_piece_by_piece_and_joins_to_what_was_generated(engine, tokenizer):
    events = run(engine, ask(tokenizer, "What is (12+7)*3-40?"))
    pieces = [event.text for event in events if isinstance(event, TextEvent)]
    assert len(pieces) > 10
    whole = tokenizer.decode(tokens(events), skip_special_tokens=True).replace("</think>", "")
    assert "".join("".join(pieces).split()) == "".join(whole.split())


def test_a_stop_string_ends_the_answer_before_it(engine, tokenizer):
    events = run(engine, ask(tokenizer, "What is 12+7?", stop=("{19",)))
    assert text(events, "answer").strip() == "\\boxed"
    assert end(events).stopped_by == "{19"


def test_a_thinking_budget_closes_the_thought_and_an_answer_follows(engine, tokenizer):
    events = run(engine, ask(tokenizer, "What is ((3+4)*5-6)*7?", thinking_budget=10))
    assert len(tokenizer.encode(text(events, "thinking"))) <= 12
    assert boxed_answer(text(events, "answer"))


def test_a_later_turn_prefills_only_what_is_new(engine, tokenizer):
    said, known = [], 0
    for question in ("What is 12+7?", "Add 5 to that.", "What is 30/5?"):
        said.append(question)
        request = ask(tokenizer, *said)
        events = run(engine, request)
        stats = end(events).stats
        assert (stats.cached_tokens, stats.prefilled_tokens) == (known, len(request.ids) - known)
        said.append(text(events, "answer").strip())
        known = request.snapshot_at[0]  # the template drops this turn's thinking from here on
    assert [boxed_answer(answer) for answer in said[1::2]] == ["19", "24", "6"]


def test_sixteen_at_once_are_answered_as_one_by_one(model, tokenizer, at_once):
    engine = Engine(model, tokenizer)
    alone = [tokens(run(engine, ask(tokenizer, problem.question))) for problem in held_out(16)]
    assert [tokens(events) for events in at_once[:16]] == alone


def test_a_text_does_not_depend_on_who_waits_even_where_prompts_part_at_their_last_token(tokenizer):
    """One prompt of a pair is then cut before its last token, for the other's sake: 60 texts, alone and in pairs."""
    model = zaya_core.load_model(BUNDLED, device="cpu")
    native = cpu_products().native
    if native is None or not has_prompt_attention(native) or not isinstance(model.steps, NativeSteps):
        pytest.skip("a library's products round by the number of rows")
    numbers = torch.randint(0, model.config.vocab_size, (30, 40), generator=torch.Generator().manual_seed(1)).tolist()
    pairs = [[[*ids[:39], last] for last in (ids[39], (ids[39] + 1) % model.config.vocab_size)] for ids in numbers]
    requests = [
        [Request(ids, SamplingParams(seed=1), max_tokens=6, ignore_stop_ids=True) for ids in two] for two in pairs
    ]

    def texts(wanted):
        events = list(Engine(model, tokenizer).generate(wanted))
        return [tokens([event for event in events if event.request_id == id_]) for id_ in range(len(wanted))]

    together = [text for two in requests for text in texts(two)]
    alone = [text for two in requests for one in two for text in texts([one])]
    assert together == alone
