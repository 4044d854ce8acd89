"""Rollouts by a server: what it is asked, what it may get wrong."""

from __future__ import annotations

import sys

import pytest

from tests.core.rsa.faulty_server import THOUGHT, Behaviour, served
from tests.core.rsa.servers import PARAMS, QUESTION, SAMPLING, run
from zaya_core.errors import NetworkError, UsageError
from zaya_core.rsa import RsaParams, solve
from zaya_core.rsa.endpoint import EndpointGenerator

pytest.importorskip("openai", reason="the endpoint extra is not installed")

pytestmark = pytest.mark.usefixtures("direct")


def test_thoughts_are_asked_for_up_to_their_budget_closed_here_and_then_answered(tokenizer):
    behaviour = Behaviour()
    result, generator = run(behaviour, tokenizer)
    assert (generator.dialect.kind, generator.model, generator.notes) == ("ids", "served", [])
    assert (result.text, result.choice.agreeing, result.choice.total) == ("\\boxed{3}", 3, 3)
    assert [rollout.thinking for rollout in result.rollouts] == [THOUGHT] * 6
    assert all(rollout.mean_logprob == pytest.approx(-1.0) for rollout in result.rollouts)
    assert all(len(tokenizer.encode(rollout.tail)) <= 2 for rollout in result.rollouts)
    thoughts = [request for request in behaviour.seen if request.get("stop")]
    answers = [request for request in behaviour.seen if not request.get("stop")]
    assert (len(thoughts), len(answers)) == (6, 3)
    assert {request["max_tokens"] for request in thoughts} == {50}
    assert {request["max_tokens"] for request in answers} == {7}
    plain = tokenizer.render_chat(QUESTION)
    assert sum(request["prompt"] == plain for request in thoughts) == 3
    closed = [*tokenizer.encode(THOUGHT), tokenizer.think_end_id]
    assert all(request["prompt"][-len(closed) :] == closed for request in answers)


def test_sampling_is_passed_on_and_each_rollout_has_a_seed_of_its_own(tokenizer):
    behaviour = Behaviour()
    run(behaviour, tokenizer)
    assert {(r["temperature"], r["top_p"], r["min_p"], r["model"]) for r in behaviour.seen} == {
        (1.0, 1.0, 0.25, "served")
    }
    assert len({request["seed"] for request in behaviour.seen}) == 9
    again = Behaviour()
    run(again, tokenizer)
    assert {request["seed"] for request in again.seen} == {request["seed"] for request in behaviour.seen}


def test_a_thought_that_was_cut_is_closed_and_answered_all_the_same(tokenizer):
    result, _ = run(Behaviour(), tokenizer, RsaParams(candidates=1, rounds=0, think=2, answer=7))
    assert (result.rollouts[0].state, result.text) == ("cut", "\\boxed{3}")


def test_a_server_without_extensions_is_asked_without_them_and_that_is_said(tokenizer):
    result, generator = run(Behaviour(takes_extras=False), tokenizer)
    assert (generator.dialect.kind, generator.dialect.extended) == ("ids", False)
    assert "min-p" in generator.notes[0]
    assert result.rollouts[0].mean_logprob is None


@pytest.mark.parametrize(("surplus", "kind", "drops"), [(0, "text", False), (1, "text", True), (2, "chat", False)])
def test_prompts_go_as_text_only_where_the_server_makes_as_many_tokens_of_them(tokenizer, surplus, kind, drops):
    def count(prompt):
        bos = "" if prompt.startswith("<bos>") else "<bos>"  # what it dropped, to count the rest alike
        del bos
        return len(tokenizer.render_chat([{"role": "user", "content": "1 + 1"}])) + surplus

    _, generator = run(Behaviour(takes_ids=False, count_tokens=count), tokenizer)
    assert (generator.dialect.kind, generator.dialect.drops_bos) == (kind, drops)


@pytest.mark.parametrize(
    "message",
    [
        {"content": "\\boxed{3}", "reasoning_content": THOUGHT},
        {"content": "\\boxed{3}", "reasoning": THOUGHT},
        {"content": f"<think>\n{THOUGHT}\n</think>\n\n\\boxed{{3}}"},
        {"content": f"{THOUGHT}</think>\\boxed{{3}}", "reasoning_content": None},
    ],
)
def test_chat_completions_where_there_is_nothing_else(tokenizer, message):
    behaviour = Behaviour(has_completions=False, chat_message=message)
    result, generator = run(behaviour, tokenizer)
    assert generator.dialect.kind == "chat"
    assert "cannot be closed" in generator.notes[0]
    assert result.text == "\\boxed{3}"
    assert {rollout.thinking for rollout in result.rollouts} == {THOUGHT}
    assert {request["max_tokens"] for request in behaviour.seen} == {50, 57}
    assert behaviour.seen[0]["messages"] == QUESTION


def test_no_more_requests_at_once_than_allowed(tokenizer):
    behaviour = Behaviour()
    run(behaviour, tokenizer, RsaParams(candidates=12, rounds=1), parallel=3)
    assert behaviour.most_open <= 3


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["500", "503", "429", "drop", "garbage", "wrong shape"])
def test_a_passing_fault_is_repeated_and_not_seen(tokenizer, fault):
    behaviour = Behaviour(fault=lambda number: fault if number == 1 else None)
    result, _ = run(behaviour, tokenizer, parallel=1)
    assert {rollout.state for rollout in result.rollouts} == {"done"}
    assert result.text == "\\boxed{3}"


@pytest.mark.parametrize(("fault", "words"), [("500", "answered 500"), ("garbage", "not the OpenAI protocol")])
def test_a_lasting_fault_is_one_sentence_and_what_was_finished_is_kept(tokenizer, fault, words):
    behaviour = Behaviour()
    behaviour.fault = lambda number: fault if number >= 3 else None
    result, _ = run(behaviour, tokenizer, parallel=1, retries=1)
    assert [rollout.state for rollout in result.rollouts] == ["done"] * 3 + ["failed"] * 3
    assert result.thinking == THOUGHT
    assert result.error is not None
    assert words in result.error and result.error.endswith(".")
    assert not result.is_complete


def test_a_fault_from_the_start_is_one_sentence(tokenizer):
    behaviour = Behaviour()
    with served(behaviour) as url:
        generator = EndpointGenerator(url, tokenizer, 4096, retries=1)
        behaviour.fault = lambda number: "500"
        with pytest.raises(NetworkError, match=r"answered 500 \(fault 500\)\.$"):
            solve(generator, QUESTION, PARAMS, SAMPLING)


def test_a_slow_server_times_out_with_a_sentence(tokenizer):
    class Slow(Behaviour):
        release = __import__("threading").Event()

    behaviour = Slow()
    with served(behaviour) as url:
        generator = EndpointGenerator(url, tokenizer, 4096, retries=0, timeout=0.2)
        behaviour.fault = lambda number: (behaviour.release.wait(20), None)[1]
        with pytest.raises(NetworkError, match="does not answer"):
            solve(generator, QUESTION, RsaParams(candidates=1, rounds=0), SAMPLING)
        behaviour.release.set()


def test_nobody_there_is_one_sentence(tokenizer):
    with pytest.raises(NetworkError, match="No OpenAI-compatible server answers"):
        EndpointGenerator("http://127.0.0.1:9/v1", tokenizer, 4096, retries=0)


def test_a_refused_key_says_which_variable_to_set(tokenizer):
    with served(Behaviour(fault=lambda number: "401")) as url, pytest.raises(NetworkError, match="OPENAI_API_KEY"):
        EndpointGenerator(url, tokenizer, 4096)


@pytest.mark.parametrize(
    "url", ["ftp://x/v1", "", "http://", "http://a b", "host:port", "http://host:99999", "::1:8000"]
)
def test_what_is_no_url_is_a_usage_error(tokenizer, url):
    with pytest.raises(UsageError, match="http://localhost:8000/v1"):
        EndpointGenerator(url, tokenizer, 4096)


def test_without_the_library_it_is_said_what_to_install(tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(UsageError, match="pip install openai"):
        EndpointGenerator("http://localhost:1/v1", tokenizer, 4096)


def test_stopping_keeps_what_is_there_and_drops_what_comes_later(tokenizer):
    behaviour = Behaviour()
    seen: list = []
    with served(behaviour) as url:
        generator = EndpointGenerator(url, tokenizer, 4096, parallel=1)
        result = solve(
            generator, QUESTION, PARAMS, SAMPLING, on_event=seen.append,
            should_stop=lambda: any(hasattr(event, "rollout") for event in seen),
        )  # fmt: skip
        assert {rollout.state for rollout in result.rollouts} == {"done", "stopped"}
        again = solve(generator, QUESTION, PARAMS, SAMPLING)
        assert {rollout.state for rollout in again.rollouts} == {"done"}
