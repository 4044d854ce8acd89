"""Whatever strangers send, the answer is one of the protocol's, and the server goes on."""

from __future__ import annotations

import random

import pytest

from tests.cli.serve.in_process import asked
from tests.cli.serve.test_fields import CHATS, TEXT

PATHS = {
    "/v1/chat/completions": [*CHATS, "stream_options", "return_progress", "timings_per_token"],
    "/v1/completions": [*TEXT],
    "/tokenize": ["prompt", "content", "messages", "with_pieces", "parse_special", "chat_template_kwargs"],
    "/detokenize": ["tokens"],
    "/apply-template": ["messages", "chat_template_kwargs", "add_generation_prompt", "thinking"],
    "/v1/chat/completions/control": ["id", "action"],
}
VALUES: list = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        1.0,
        1.5,
        1e-30,
        1e6,
        1e300,
        2**53,
        2**64,
        -(2**63),
        "",
        "x",
        "0",
        "auto",
        "none",
    ),
    *(
        "<|im_end|>",
        "\x00",
        "\u202e",
        "é漢🙂",
        "a" * 5000,
        [],
        {},
        [0],
        [[0]],
        [1, 2, 3],
        ["x", "y"],
        [None],
        [{}],
        [[]],
    ),
    *(
        {"a": 1},
        {"1": 1},
        {"role": "user"},
        {"type": "text", "text": "x"},
        {"type": "function"},
        {"include_usage": True},
    ),
    [{"role": "user", "content": "x"}],
    [{"role": "assistant", "content": None}, {"role": "tool", "content": ["x"]}, {"role": "user", "content": "x"}],
    [{"role": "user", "content": [{"type": "text", "text": "x"}], "name": "n", "tool_calls": [1]}],
    {"enable_thinking": True, "a": {"b": [1]}},
    {"enable_thinking": "no"},
    {"for": 1, "loop": 2, "namespace": 3, "tools": [1], "self": 4, "range": 5},
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", range(8))
def test_bodies_of_any_fields_and_values_are_answered_in_the_protocols_words(server, path, case):
    chance = random.Random(f"{path} {case}")
    for _ in range(12):
        names = chance.sample(PATHS[path], min(len(PATHS[path]), chance.randint(1, 4)))
        body = {name: chance.choice(VALUES) for name in names}
        if "completions" in path and chance.random() < 0.7:
            body = {"messages": asked("x")["messages"], "prompt": "x", **body}
        response = server.post(path, {**body, "max_tokens": chance.choice([1, 3, None, "x", 0]), "stop": ["x"]})
        assert response.status_code in (200, 400, 404, 501), (body, response.text)
        if response.status_code != 200:
            assert response.json()["error"]["message"], body
    assert server.service.state == "ready"


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1e6},
        {"temperature": 1e-30, "top_p": 1, "min_p": 0},
        {"temperature": 1e6, "repetition_penalty": 0.01, "presence_penalty": -2, "frequency_penalty": -2},
        {"temperature": 1e-30, "repetition_penalty": 100, "frequency_penalty": 2},
        {"logit_bias": {str(id_): -100 for id_ in range(768)}},
        {"logit_bias": {str(id_): 100 for id_ in range(768)}, "temperature": 1e-30},
        {"top_k": 1 << 62},
        {"top_k": -1, "min_p": 0.999, "top_p": 1e-300},
        {"logprobs": True, "top_logprobs": 20, "logit_bias": {"380": -100}, "temperature": 1e6},
        {"seed": (1 << 64) - 1, "n": 4},
    ],
)
def test_no_way_of_choosing_makes_the_model_look_damaged(server, fields):
    for is_stream in (False, True):
        response = server.post("/v1/chat/completions", asked(max_tokens=12, stream=is_stream, **fields))
        assert response.status_code == 200 and '"error"' not in response.text, response.text
    assert server.service.state == "ready"
