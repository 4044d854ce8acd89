"""Budgets follow the server's context, and tokens are counted also where the server does not."""

from __future__ import annotations

import pytest

from tests.core.rsa.faulty_server import THOUGHT, Behaviour
from tests.core.rsa.servers import ONE, PARAMS, run
from zaya_core.errors import NetworkError, PromptTooLongError
from zaya_core.rsa import RsaParams
from zaya_core.rsa.endpoint.context import ContextLimit, context_limit
from zaya_core.rsa.endpoint.faults import StatusError
from zaya_core.rsa.endpoint.models import context_of
from zaya_core.rsa.events import BudgetsShrank, RunStarted

pytest.importorskip("openai", reason="the endpoint extra is not installed")
pytestmark = pytest.mark.usefixtures("direct")

WIDE = RsaParams(candidates=3, rounds=1, subset=2, think=2200, tail=400, answer=400)


def needs(behaviour):
    return [len(request["prompt"]) + request["max_tokens"] for request in behaviour.seen]


@pytest.mark.parametrize(
    ("entry", "context"),
    [
        ({"max_model_len": 2048}, 2048),
        ({"context_length": 4096}, 4096),
        ({"n_ctx": 512, "meta": {"n_ctx_train": 131072}}, 512),
        ({"meta": {"n_ctx_train": 131072}}, 131072),
        ({"meta": {"n_ctx": "2048", "n_ctx_train": 131072}}, 2048),
        ({"context_window": 8192.0}, 8192),
        ({"max_model_len": None}, None),
        ({"max_model_len": True}, None),
        ({"max_model_len": -1, "context_length": 0}, None),
        ({"max_model_len": "many", "meta": 5}, None),
        ({"max_model_len": float("nan")}, None),
        ({}, None),
    ],
)
def test_a_list_of_models_may_say_how_long_the_context_is(entry, context):
    assert context_of(entry) == context


def test_budgets_fit_the_context_that_the_server_announces_and_that_is_said(tokenizer):
    events: list = []
    behaviour = Behaviour(models=[{"id": "served", "max_model_len": 2048}], context=2048)
    result, generator = run(behaviour, tokenizer, WIDE, context=131072, on_event=events.append)
    assert (generator.context, result.is_complete, result.text) == (2048, True, "\\boxed{3}")
    assert any("2,048" in note and "131,072" in note for note in generator.notes)
    assert max(needs(behaviour)) <= 2048
    (started,) = (event for event in events if isinstance(event, RunStarted))
    assert started.context == 2048 and started.params.think < 2200


def test_a_larger_context_than_ours_changes_nothing(tokenizer):
    _, generator = run(Behaviour(models=[{"id": "served", "max_model_len": 10**6}]), tokenizer, ONE)
    assert (generator.context, generator.notes) == (4096, [])


VLLM = (
    "This model's maximum context length is {context} tokens. However, you requested {total} tokens "
    "({prompt} in the messages, {wanted} in the completion). Please reduce the length."
)
NEW_VLLM = (
    "'max_tokens' or 'max_completion_tokens' is too large: {wanted}. This model's maximum context length is {context} "
    "tokens and your request has {prompt} input tokens ({wanted} > {context} - {prompt})."
)
NEWEST_VLLM = (
    "max_tokens={wanted} cannot be greater than max_model_len=max_total_tokens={context}. "
    "Please request fewer output tokens."
)
SGLANG = (
    "Requested token count exceeds the model's maximum context length of {context} tokens. You requested a total of "
    "{total} tokens: {prompt} tokens from the input messages and {wanted} tokens for the completion."
)
LLAMA = "request ({total} tokens) exceeds the available context size ({context} tokens), try increasing it"
TGI = (
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= {context}. "
    "Given: {prompt} `inputs` tokens and {wanted} `max_new_tokens`"
)
OTHER = "Requested tokens ({total}) exceed context window of {context}"
WORDLESS = "context_length_exceeded"
COMMAS = "The maximum context length is {context:,} tokens; you asked for {total:,}."
WORDS = {"vLLM": VLLM, "vLLM 2": NEW_VLLM, "vLLM 3": NEWEST_VLLM, "SGLang": SGLANG, "llama.cpp": LLAMA, "TGI": TGI,
         "llama-cpp-python": OTHER, "commas": COMMAS}  # fmt: skip


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_the_limit_is_found_in_an_error_s_words(words):
    text = words.format(context=2048, prompt=400, wanted=2200, total=2600)
    limit = context_limit(StatusError("h", 400, {"message": text}))
    assert limit is not None and limit.tokens == 2048
    assert limit.excess in (None, 552)


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ({"message": "too long", "type": "exceed_context_size_error", "n_ctx": 512}, ContextLimit(512, None)),
        ({"error": {"message": "x", "code": "context_length_exceeded"}}, ContextLimit(None, None)),
        ("Prompt is too long: 5000 tokens > 4096 tokens limit", ContextLimit(4096, None)),
        ("the 4096-token context is full", ContextLimit(4096, None)),
        ("You requested 99999999999999999999 tokens, the context length is 4_096", ContextLimit(4096, None)),
        ({"message": "temperature must be at most 2"}, None),
        ({"message": "top_p 17 is not allowed"}, None),
        ({"message": "Unknown parameter: min_p"}, None),
        (None, None),
    ],
)
def test_other_errors_name_no_limit(body, limit):
    assert context_limit(StatusError("h", 400, body)) == limit


@pytest.mark.parametrize("words", [*WORDS.values(), WORDLESS], ids=[*WORDS, "wordless"])
@pytest.mark.parametrize("context", [2048, 300])
def test_a_refusal_for_the_context_shrinks_the_budgets_and_the_run_goes_on(tokenizer, words, context):
    events: list = []
    behaviour = Behaviour(context=context, context_words=words)
    result, generator = run(behaviour, tokenizer, WIDE, context=131072, on_event=events.append)
    assert (result.is_complete, result.text, result.error) == (True, "\\boxed{3}", None)
    assert {rollout.state for rollout in result.rollouts} == {"done"}
    if words != WORDLESS:
        (shrank,) = (event for event in events if isinstance(event, BudgetsShrank))
        assert (generator.context, shrank.context, shrank.asked.think) == (context, context, 2200)
        assert result.params == shrank.params
        assert sum(need > context for need in needs(behaviour)) <= 3  # one for each that ran when it became known


def test_tails_that_are_there_shrink_with_the_budgets(tokenizer):
    long = " ".join(f"word{number}" for number in range(60))

    def think(handler, body):
        if len(body["prompt"]) + body["max_tokens"] > 400 and len(behaviour.seen) > 3:
            behaviour.context = 400
            handler.refuse_for_context(body)
        else:
            ids = tokenizer.encode(long)[: body["max_tokens"]]
            handler.stream([{"text": tokenizer.decode(ids) if body.get("stop") else "\\boxed{3}"}], body)

    behaviour = Behaviour(fault=lambda number: think, context_words=VLLM)
    params = RsaParams(candidates=3, rounds=1, subset=2, think=300, tail=300, answer=20)
    result, _ = run(behaviour, tokenizer, params, context=131072)
    assert (result.is_complete, result.text) == (True, "\\boxed{3}")
    assert needs(behaviour)[-1] <= 400


def test_a_question_longer_than_the_server_s_context_is_one_sentence(tokenizer):
    with pytest.raises(PromptTooLongError, match="the context is 40"):
        run(Behaviour(context=40, context_words=VLLM), tokenizer, WIDE, context=131072)


def test_a_server_that_refuses_every_budget_is_left(tokenizer):
    behaviour = Behaviour(fault=lambda number: lambda handler, body: handler.error(400, "context_length_exceeded"))
    with pytest.raises(NetworkError, match="context_length_exceeded"):
        run(behaviour, tokenizer, ONE, parallel=1)
    assert len(behaviour.seen) < 10


# --- usage ------------------------------------------------------------------------------------------------------------


def test_tokens_are_counted_here_where_the_server_sends_no_usage_and_marked(tokenizer):
    result, _ = run(Behaviour(sends_usage=False), tokenizer)
    for rollout in result.rollouts:
        texts = [text for text in (rollout.thinking, rollout.answer) if text]
        assert rollout.is_estimate
        assert rollout.completion_tokens == sum(len(tokenizer.encode(text)) for text in texts)
        assert rollout.prompt_tokens > 0


def test_counts_of_the_server_are_no_estimate(tokenizer):
    result, _ = run(Behaviour(), tokenizer)
    assert not any(rollout.is_estimate for rollout in result.rollouts)
    assert {rollout.completion_tokens for rollout in result.rollouts} == {3, 6}


@pytest.mark.parametrize(
    "usage", ["x", 5, [], {"completion_tokens": -3}, {"completion_tokens": "many"}, {"completion_tokens": 10**30}, {},
              {"completion_tokens": None}, {"completion_tokens": True}, {"completion_tokens": float("inf")}],
)  # fmt: skip
def test_counts_that_are_none_are_not_believed(tokenizer, usage):
    def odd(handler, body):
        handler.send_events(_with_usage(usage))

    result, _ = run(Behaviour(fault=lambda number: odd if number == 0 else None), tokenizer, ONE, parallel=1)
    assert result.rollouts[0].is_estimate
    assert result.rollouts[0].completion_tokens == 3 + len(tokenizer.encode(THOUGHT))


def _with_usage(usage):
    import json

    choice = {"index": 0, "text": THOUGHT, "finish_reason": "stop"}
    return [json.dumps({"choices": [choice]}), json.dumps({"choices": [], "usage": usage}), "[DONE]"]


@pytest.mark.parametrize("count", ["3", 3.0])
def test_counts_may_be_written_oddly(tokenizer, count):
    def odd(handler, body):
        handler.send_events(_with_usage({"prompt_tokens": count, "completion_tokens": count}))

    result, _ = run(Behaviour(fault=lambda number: odd if number == 0 else None), tokenizer, ONE, parallel=1)
    assert (result.rollouts[0].completion_tokens, result.rollouts[0].is_estimate) == (6, False)


@pytest.mark.parametrize("kind", ["completions", "chat"])
def test_a_server_that_refuses_to_count_is_asked_without(tokenizer, kind):
    behaviour = Behaviour(refuses=("stream_options",), has_completions=kind == "completions")
    result, generator = run(behaviour, tokenizer)
    assert not generator.dialect.asks_usage
    assert generator.dialect.extended == (kind == "completions")
    assert (result.text, all(rollout.is_estimate for rollout in result.rollouts)) == ("\\boxed{3}", True)
    assert not any("stream_options" in request for request in behaviour.seen)


def test_a_refusal_that_names_nothing_is_tried_without_counts_too(tokenizer):
    def strict(handler, body):
        handler.error(422, "not understood") if "stream_options" in body or "min_p" in body else handler.complete(body)

    result, generator = run(Behaviour(fault=lambda number: strict), tokenizer, PARAMS, from_start=True)
    assert (generator.dialect.kind, generator.dialect.asks_usage, result.text) == ("ids", False, "\\boxed{3}")
