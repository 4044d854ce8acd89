"""Chats as clients of OpenAI's protocol read them."""

from __future__ import annotations

import json

import pytest

from tests.cli.serve.in_process import asked, error_in, events, joined

CHAT = "/v1/chat/completions"
ENDLESS = {"106": -100}  # the end of a turn is never chosen
THINKS_ON = {"106": -100, "767": -100}  # nor the end of a thought


def test_an_answer_has_all_that_clients_read(server):
    answer = server.chat(seed=3)
    assert answer["object"] == "chat.completion" and answer["id"].startswith("chatcmpl-")
    assert answer["model"] == "demo" and isinstance(answer["created"], int)
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop" and choice["index"] == 0 and choice["logprobs"] is None
    assert choice["message"]["role"] == "assistant" and choice["message"]["content"] == "\\boxed{19}"
    usage = answer["usage"]
    assert usage["prompt_tokens"] == 19 and usage["completion_tokens"] == 18 and usage["total_tokens"] == 37
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 9
    assert answer["zaya"]["seed"] == 3 and not answer["zaya"]["thinking_cut"]
    assert answer["timings"]["predicted_n"] == 18
    assert answer["timings"]["cache_n"] == usage["prompt_tokens_details"]["cached_tokens"]


def test_thinking_has_two_names_and_one_text(server):
    message = server.chat(seed=3)["choices"][0]["message"]
    assert message["reasoning_content"] == message["reasoning"] == "12+7=19"
    for chunk in server.streamed(CHAT, asked(seed=3)):
        delta = chunk["choices"][0]["delta"]
        assert delta.get("reasoning_content") == delta.get("reasoning")


def test_a_stream_is_in_the_order_that_clients_expect(server):
    chunks = server.streamed(CHAT, asked(seed=3, n=3, stream_options={"include_usage": True}))
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    firsts = [chunk["choices"][0] for chunk in chunks[:3]]
    assert [(first["index"], first["delta"]) for first in firsts] == [
        (index, {"role": "assistant", "content": ""}) for index in range(3)
    ]
    for index in range(3):
        own = [c for chunk in chunks[3:] for c in chunk["choices"] if c["index"] == index]
        kinds = ["thinking" if "reasoning" in c["delta"] else "content" for c in own[:-1]]
        assert kinds == sorted(kinds, reverse=True)  # thinking first
        assert [c["finish_reason"] for c in own] == [None] * (len(own) - 1) + ["stop"]
        assert own[-1]["delta"] == {}
        assert not any("role" in c["delta"] for c in own)
    assert chunks[-1]["choices"] == [] and chunks[-1]["usage"]["total_tokens"]


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}, {"include_usage": None}])
def test_figures_come_in_a_stream_only_when_they_are_asked_for(server, options):
    chunks = server.streamed(CHAT, asked(seed=3, stream_options=options))
    assert all(chunk["choices"] for chunk in chunks)
    assert not any("usage" in chunk for chunk in chunks)


def test_the_figures_of_a_stream_are_one_last_chunk_without_choices(server):
    whole = server.chat(seed=3, n=2)["usage"]
    chunks = server.streamed(CHAT, asked(seed=3, n=2, stream_options={"include_usage": True}))
    assert [chunk for chunk in chunks if not chunk["choices"]] == [chunks[-1]]
    assert {**chunks[-1]["usage"], "prompt_tokens_details": None} == {**whole, "prompt_tokens_details": None}
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


def test_running_figures_grow_to_the_last_ones(server):
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = server.streamed(CHAT, asked(seed=3, stream_options=options, timings_per_token=True))
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts) and counts[0] == 0
    assert counts[-1] - counts[-2] <= 1  # the end of the turn is told with the end
    assert all("timings" in chunk for chunk in chunks)


def test_a_prompt_counts_once_and_its_choices_are_summed(server):
    one, three = server.chat(seed=3), server.chat(seed=3, n=3)
    assert three["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
    assert three["usage"]["completion_tokens"] >= 3 * 10


def test_progress_of_the_prompt_is_told_when_it_is_asked_for(server):
    text = "1+1 " * 100
    chunks = server.streamed(CHAT, asked(text, seed=3, return_progress=True, max_tokens=5))
    progress = [chunk["prompt_progress"] for chunk in chunks if "prompt_progress" in chunk]
    assert progress and progress[-1]["processed"] == progress[-1]["total"]
    assert not any("prompt_progress" in c for c in server.streamed(CHAT, asked(text, seed=3, max_tokens=5)))


def test_stop_strings_act_in_the_answer_and_not_in_the_thinking(server):
    answer = server.chat(seed=3, stop=["19"])["choices"][0]
    assert "19" in answer["message"]["reasoning"]
    assert answer["message"]["content"] == "\\boxed{" and answer["finish_reason"] == "stop"
    assert joined(server.streamed(CHAT, asked(seed=3, stop="19")))[1:] == ("\\boxed{", "stop")


@pytest.mark.parametrize("stop", [[], "", [""], None, ["", "never there"]])
def test_stops_that_stop_nothing_are_none(server, stop):
    assert server.chat(seed=3, stop=stop)["choices"] == server.chat(seed=3)["choices"]


@pytest.mark.parametrize("tokens", [1, 2, 3])
def test_thinking_that_is_cut_is_no_content(server, tokens):
    choice = server.chat(seed=3, max_tokens=tokens)["choices"][0]
    assert choice["message"]["content"] == "" and choice["finish_reason"] == "length"
    assert choice["message"]["reasoning"] == "12+7=19"[:tokens]
    assert joined(server.streamed(CHAT, asked(seed=3, max_tokens=tokens))) == ("12+7=19"[:tokens], "", "length")


def test_a_budget_that_leaves_no_answer_is_still_the_clients_word(server):
    choice = server.chat(seed=3, max_tokens=8, thinking_budget=8)["choices"][0]
    assert choice["message"]["content"] == "" and choice["finish_reason"] == "length"


def test_a_short_limit_leaves_some_of_itself_for_the_answer(server):
    answer = server.chat(seed=3, max_tokens=40, logit_bias=THINKS_ON)
    message = answer["choices"][0]["message"]
    assert answer["usage"]["completion_tokens"] == 40
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 30  # with the end of the thinking
    assert message["content"] and answer["zaya"]["thinking_cut"]


@pytest.mark.parametrize("limit", [{}, {"max_tokens": None}, {"max_tokens": 9999}, {"max_completion_tokens": 4096}])
def test_without_a_limit_or_with_too_large_a_one_there_is_as_much_as_there_is_room_for(
    demo, own_server, monkeypatch, limit
):
    monkeypatch.setattr(demo.engine, "context", 200)
    answer = own_server().chat(seed=3, logit_bias=ENDLESS, **limit)
    assert answer["usage"]["total_tokens"] == 200
    assert answer["choices"][0]["finish_reason"] == "length"


def test_the_newer_name_of_the_limit_wins(server):
    assert server.chat(seed=3, max_completion_tokens=3, max_tokens=7)["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers_and_never_cut(server, is_stream):
    error = error_in(server.post(CHAT, asked("1+1 " * 2000, stream=is_stream)), 400)
    assert error["code"] == "context_length_exceeded" and error["param"] == "messages"
    assert "maximum context length is 4096 tokens" in error["message"]
    tokens = server.whole("/tokenize", asked("1+1 " * 2000))["count"]
    assert f"the prompt has {tokens}," in error["message"]


@pytest.mark.parametrize(
    "off",
    [
        {"reasoning_effort": "none"},
        {"enable_thinking": False},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"thinking": {"type": "disabled"}},
    ],
)
def test_thinking_can_be_switched_off_by_the_names_that_there_are(server, off):
    message = server.chat(seed=3, max_tokens=60, **off)["choices"][0]["message"]
    assert "reasoning" not in message and "reasoning_content" not in message
    assert message["content"]
    assert server.chat(seed=3, max_tokens=60, **off)["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


@pytest.mark.parametrize(
    "budget",
    [
        {"thinking_budget": 5},
        {"reasoning_max_tokens": 5},
        {"thinking": {"type": "enabled", "budget_tokens": 5}},
        {"thinking_budget": 5, "reasoning_effort": "high"},
        {"thinking_budget": 5, "reasoning_effort": "low"},
    ],
)
def test_a_budget_closes_the_thinking_and_says_so(server, budget):
    answer = server.chat(seed=3, logit_bias=THINKS_ON, max_tokens=40, **budget)
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 6
    assert answer["zaya"]["thinking_cut"] and answer["choices"][0]["message"]["content"]


def test_an_effort_is_a_budget():
    from zaya_cli.serve.protocol.asks.thinking import THINKING, thinking_of
    from zaya_cli.serve.protocol.fields import read_fields

    budgets = {
        effort: thinking_of(read_fields({"reasoning_effort": effort}, THINKING)).budget
        for effort in ("minimal", "low", "medium", "high", "xhigh", "max")
    }
    assert budgets == {"minimal": 512, "low": 2048, "medium": 8192, "high": None, "xhigh": None, "max": None}


def test_the_end_of_a_turn_inside_the_thinking_closes_it_and_an_answer_follows(server):
    always = {"106": 100}
    answer = server.chat(seed=3, max_tokens=60, thinking_budget=50, logit_bias=always)
    details = answer["usage"]["completion_tokens_details"]
    assert details["reasoning_tokens"] == 1 and answer["usage"]["completion_tokens"] == 2
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_unseeded_answers_differ_and_say_their_seed(server):
    body = asked("hi", temperature=3, top_p=1, min_p=0, max_tokens=30)
    first, second = server.whole(CHAT, body), server.whole(CHAT, body)
    assert first["choices"] != second["choices"]
    assert first["zaya"]["seed"] != second["zaya"]["seed"]
    assert max(first["zaya"]["seed"], second["zaya"]["seed"]) < 1 << 53  # what a number in JavaScript holds
    again = server.whole(CHAT, {**body, "seed": first["zaya"]["seed"]})
    assert again["choices"] == first["choices"]
    assert server.whole(CHAT, {**body, "seed": -1})["choices"] != first["choices"]


def test_choices_differ_each_with_its_own_thinking_and_a_seed_fixes_them_all(server):
    body = asked("hi", temperature=3, top_p=1, min_p=0, max_tokens=40, seed=5, n=4)
    first, second = server.whole(CHAT, body), server.whole(CHAT, body)
    assert first["choices"] == second["choices"]
    assert len({json.dumps(choice["message"]) for choice in first["choices"]}) == 4
    assert len({choice["message"]["reasoning"] for choice in first["choices"]}) == 4
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2, 3]
    assert server.whole(CHAT, {**body, "n": 1})["choices"] == first["choices"][:1]


@pytest.mark.parametrize("name", ["default", "gpt-4o", "/models/zaya.gguf", "", None, "ümlaut"])
def test_any_name_of_a_model_is_taken_and_the_real_one_is_answered(server, name):
    assert server.chat(model=name, max_tokens=2)["model"] == "demo"


def test_strict_names_are_refused_when_they_are_others(own_server):
    server = own_server(strict_model=True)
    assert error_in(server.post(CHAT, asked(model="gpt-4o")), 404)["code"] == "model_not_found"
    assert server.chat(model="demo", max_tokens=2)["model"] == "demo"
    assert server.chat(max_tokens=2)["model"] == "demo"


def test_penalties_and_biases_reach_the_sampler(server):
    greedy = {"temperature": 0, "max_tokens": 30}
    plain = server.chat(**greedy)["choices"]
    assert server.chat(**greedy, logit_bias={"380": -100})["choices"] != plain
    for name in ("presence_penalty", "frequency_penalty"):
        assert (
            server.chat(**greedy, thinking_budget=29, logit_bias=THINKS_ON)["choices"]
            != server.chat(**greedy, thinking_budget=29, logit_bias=THINKS_ON, **{name: 2})["choices"]
        )


def test_silence_is_filled_with_comments_that_no_client_reads(own_server):
    server = own_server(ping=0.02)
    release = server.held()
    server._loop.call_later(0.2, release.set)
    response = server.post(CHAT, {**asked(seed=3), "stream": True})
    assert response.text.count(": ping\n\n") >= 3
    *chunks, _ = events(response.text)
    assert joined(chunks) == ("12+7=19", "\\boxed{19}", "stop")


def test_the_next_turn_begins_where_the_last_question_ended(server):
    system = {"role": "system", "content": "You are a calculator and you answer with a box."}
    question = {"role": "user", "content": "What is 21+8?"}
    server.whole(CHAT, {"messages": [system, question], "seed": 3, "max_tokens": 30})
    answer = {"role": "assistant", "content": "\\boxed{29}"}
    longer = server.whole(
        CHAT, {"messages": [system, question, answer, {"role": "user", "content": "And 1+1?"}], "max_tokens": 30}
    )
    heads = server.whole("/tokenize", {"messages": [system, question], "add_generation_prompt": False})
    assert longer["usage"]["prompt_tokens_details"]["cached_tokens"] >= heads["count"]
