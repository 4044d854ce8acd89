"""Each field is checked before anything is computed, and the error names it."""

from __future__ import annotations

import pytest

from tests.cli.serve.in_process import asked, error_in
from zaya_cli.serve.notes import wait_until_told

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
WHOLE: tuple = ("x", 1.5, True, [], {}, "5")
NUMBERS: tuple = ("x", True, [], {}, "0.5")
FLAGS: tuple = ("true", 1, 0, [], {})
TEXTS: tuple = (1, True, [], {})
OBJECTS: tuple = (1, True, [], "x")
SHARED: dict[str, tuple] = {
    "model": TEXTS,
    "temperature": (*NUMBERS, -0.1, 1e7),
    "top_p": (*NUMBERS, -0.1, 1.1),
    "top_k": (*WHOLE, -2),
    "min_p": (*NUMBERS, -0.1, 1),
    "repetition_penalty": (*NUMBERS, 0, 101),
    "presence_penalty": (*NUMBERS, -2.1, 2.1),
    "frequency_penalty": (*NUMBERS, -2.1, 2.1),
    "seed": (*WHOLE, -2, 1 << 64),
    "n": (*WHOLE, 0, -1, 5),
    "stop": (1, True, {}, [1], ["a", None], ["x"] * 17, "x" * 1001),
    "logit_bias": (
        *OBJECTS,
        {"x": 1},
        {"-1": 1},
        {"768": 1},
        {"1": "x"},
        {"1": 101},
        {str(i): 1 for i in range(1025)},
        {"1": True},
        {"²": 1},
    ),
    "stream": FLAGS,
    "stream_options": (*OBJECTS, {"include_usage": 1}),
    "thinking_budget": (*WHOLE, -1),
}
CHATS: dict[str, tuple] = {
    **SHARED,
    "messages": (1, True, {}, "x", [], [1], ["x"], [None]),
    "max_tokens": (*WHOLE, 0, -1),
    "max_completion_tokens": (*WHOLE, 0, -1),
    "logprobs": FLAGS,
    "top_logprobs": (*WHOLE, -1, 21, 1),
    "reasoning_effort": (1, True, "most", [], {}),
    "reasoning_max_tokens": (*WHOLE, -1),
    "thinking": (*OBJECTS, {"type": "x"}, {"budget_tokens": "x"}),
    "enable_thinking": FLAGS,
    "chat_template_kwargs": (*OBJECTS, {"enable_thinking": "x"}, {"messages": []}, {"bos_token": "x"}, {"self": 1}),
    "functions": ([], [{"name": "f"}]),
    "function_call": ("auto",),
    "modalities": (["audio"], ["text", "audio"], "text"),
    "audio": ({"voice": "x"},),
    "tools": (1, "x", {}),
    "tool_choice": ("required", "x", 1, {"type": "function", "function": {"name": "f"}}),
    "response_format": (*OBJECTS, {"type": "xml"}),
}
TEXT: dict[str, tuple] = {
    **SHARED,
    "prompt": (1, True, {}, [], [[]], [1, "x"], ["x", 1], [[1], [True]], [1.5], [768], [-1], [[1], [768]], [None]),
    "max_tokens": (*WHOLE, 0, -1),
    "best_of": (*WHOLE, 0, 2),
    "suffix": ("x",),
    "echo": FLAGS,
    "logprobs": (*WHOLE, -1, 21),
    "skip_special_tokens": FLAGS,
    "add_special_tokens": FLAGS,
    "ignore_eos": FLAGS,
}


def called(arguments):
    """A turn that called a tool."""
    return {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}


def wrong(table):
    return [pytest.param(name, value, id=f"{name}-{value!r:.20}") for name in table for value in table[name]]


@pytest.mark.parametrize(("name", "value"), wrong(CHATS))
def test_a_chat_field_of_a_wrong_type_or_out_of_range_is_refused_by_name(server, name, value):
    error = error_in(server.post(CHAT, asked(**{name: value}) if name != "messages" else {name: value}), 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(name)
    assert name in error["message"]


@pytest.mark.parametrize(("name", "value"), wrong(TEXT))
def test_a_completion_field_of_a_wrong_type_or_out_of_range_is_refused_by_name(server, name, value):
    error = error_in(server.post(COMPLETIONS, {"prompt": [2], name: value}), 400)
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(name)


def test_null_is_the_same_as_absent_for_every_field(server):
    fields = asked(seed=3, max_tokens=30)
    nulls = dict.fromkeys([*CHATS, "user", "metadata", "unheard_of"])
    answer, with_nulls = (server.whole(CHAT, body) for body in (fields, {**nulls, **fields}))
    assert answer["choices"] == with_nulls["choices"]
    completion = {"prompt": [2, 380, 374], "seed": 3, "max_tokens": 5}
    answer, with_nulls = (
        server.whole(COMPLETIONS, body) for body in (completion, {**dict.fromkeys(TEXT), **completion})
    )
    assert answer["choices"] == with_nulls["choices"]


@pytest.mark.parametrize("name", ["messages", "prompt"])
def test_a_missing_prompt_is_named(server, name):
    path = CHAT if name == "messages" else COMPLETIONS
    assert error_in(server.post(path, {}), 400)["param"] == name
    assert error_in(server.post(path, {name: None}), 400)["param"] == name


def test_fields_that_nobody_knows_change_nothing_and_are_named_once_in_the_log(server, capsys):
    body = asked(seed=3, max_tokens=20, brand_new_field="SECRET TEXT", user="SECRET USER")
    first, second = server.whole(CHAT, body), server.whole(CHAT, body)
    assert first["choices"] == second["choices"] == server.chat(seed=3, max_tokens=20)["choices"]
    wait_until_told()
    log = capsys.readouterr().err
    assert log.count("brand_new_field") == 1
    assert "SECRET" not in log and "'user'" not in log


def test_the_name_of_an_unknown_field_steers_no_terminal(server, capsys):
    server.whole(CHAT, asked(max_tokens=2, **{"a\x1b]0;pwned\x07\nb": 1}))
    wait_until_told()
    log = capsys.readouterr().err
    assert "\x1b" not in log and "\x07" not in log and log.count("\n") == 1


@pytest.mark.parametrize("fields", [{"tools": []}, {"tools": [], "tool_choice": "auto"}, {"tool_choice": "none"}])
def test_no_tools_are_the_same_as_none_named(server, fields):
    assert server.chat(seed=3, **fields)["choices"] == server.chat(seed=3)["choices"]


def test_tools_that_may_not_be_called_are_not_shown_to_the_model(server):
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    assert server.chat(seed=3, tools=tools, tool_choice="none")["choices"] == server.chat(seed=3)["choices"]


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
        {"guided_regex": "a+"},
        {"grammar": "x"},
    ],
)
def test_what_is_not_there_is_refused_and_not_left_out(server, fields):
    error = error_in(server.post(CHAT, asked(**fields)), 501)
    assert error["param"] == next(iter(fields))


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "robot", "content": "x"}, "messages[1].role"),
        ({"content": "x"}, "messages[1].role"),
        ({"role": ["user"], "content": "x"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": None}, "messages[1].content"),
        ({"role": "user", "content": 5}, "messages[1].content"),
        ({"role": "user", "content": {"type": "text", "text": "x"}}, "messages[1].content"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [5]}, "messages[1].content[0]"),
        ({"role": "assistant", "tool_calls": 5}, "messages[1].tool_calls"),
        ({"role": "assistant", "tool_calls": [5]}, "messages[1].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [{"function": {}}]}, "messages[1].tool_calls[0].function.name"),
        (called("{"), "messages[1].tool_calls[0].function.arguments"),
        (called("[1]"), "messages[1].tool_calls[0].function.arguments"),
        (called(5), "messages[1].tool_calls[0].function.arguments"),
        (called("[" * 100_000), "messages[1].tool_calls[0].function.arguments"),
        (called('{"a": ' + "1" * 5000 + "}"), "messages[1].tool_calls[0].function.arguments"),
    ],
)
def test_a_message_that_cannot_be_used_is_named_by_its_place(server, message, param):
    first = {"role": "user", "content": "x"}
    assert error_in(server.post(CHAT, {"messages": [first, message]}), 400)["param"] == param


def test_an_image_is_refused_in_words(server):
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]}
    assert "reads text only" in error_in(server.post(CHAT, body), 400)["message"]


def prompt_of(server, *messages, **fields):
    return server.whole("/apply-template", {"messages": list(messages), **fields})


def test_roles_and_contents_have_several_spellings_and_one_meaning(server):
    plain = prompt_of(server, {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"})
    parts = [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo"}]
    same = prompt_of(server, {"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts})
    assert plain == same


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}])
def test_an_assistant_that_called_tools_needs_no_content_and_a_tool_may_answer_in_parts(server, content):
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "42"}]}
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", **content, "tool_calls": [call]}, answer]
    assert "42" in prompt_of(server, *messages)["prompt"]
    assert server.whole(CHAT, {"messages": messages, "max_tokens": 4})["choices"]


@pytest.mark.parametrize("arguments", ["{}", {}, "", None])
def test_no_arguments_have_several_spellings(server, arguments):
    question, result = {"role": "user", "content": "x"}, {"role": "tool", "content": "42"}
    plain = prompt_of(server, question, called("{}"), result)
    assert prompt_of(server, question, called(arguments), result) == plain
    assert prompt_of(server, question, called('{"a": 1}'), result) != plain


def test_history_brings_thinking_by_either_name(server):
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    question, result = {"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    prompts = [
        prompt_of(server, question, {"role": "assistant", "tool_calls": [call], **reasoning}, result)["prompt"]
        for reasoning in (
            {"reasoning_content": "I must call f"},
            {"reasoning": "I must call f"},
            {"reasoning_content": None, "reasoning": "I must call f"},
            {"reasoning_content": "I must call f", "reasoning": "something else"},
            {"reasoning_content": {"no": "text"}, "reasoning": "I must call f"},
        )
    ]
    assert "I must call f" in prompts[0]
    assert len(set(prompts)) == 1
