"""Completions: prompts as they are, in all the forms that clients send, and all that the model writes after them."""

from __future__ import annotations

import pytest

from tests.cli.serve.in_process import asked, error_in

COMPLETIONS = "/v1/completions"
CHAT_TEXT = "<bos><|im_start|>user\nWhat is 12+7?<|im_end|>\n<|im_start|>assistant\n<think>\n"


def text_of(server, **fields):
    return server.whole(COMPLETIONS, {"seed": 3, "max_tokens": 60, **fields})["choices"][0]["text"]


def test_an_answer_has_all_that_clients_read(server):
    answer = server.whole(COMPLETIONS, {"prompt": CHAT_TEXT, "seed": 3})
    assert answer["object"] == "text_completion" and answer["id"].startswith("cmpl-") and answer["model"] == "demo"
    (choice,) = answer["choices"]
    assert choice["index"] == 0 and choice["logprobs"] is None and choice["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == 19 and answer["usage"]["completion_tokens"] == 18


def test_a_prompt_is_the_same_as_text_and_as_ids_alone_or_in_a_list(server):
    ids = server.whole("/tokenize", {"prompt": CHAT_TEXT})["tokens"]
    assert ids == server.whole("/tokenize", asked())["tokens"]
    texts = {text_of(server, prompt=prompt) for prompt in (CHAT_TEXT, [CHAT_TEXT], ids, [ids])}
    assert len(texts) == 1
    without_bos = CHAT_TEXT.removeprefix("<bos>")
    assert text_of(server, prompt=without_bos) == texts.pop()
    assert server.whole(COMPLETIONS, {"prompt": "1", "max_tokens": 1})["usage"]["prompt_tokens"] == 2
    bare = {"prompt": "1", "max_tokens": 1, "add_special_tokens": False}
    assert server.whole(COMPLETIONS, bare)["usage"]["prompt_tokens"] == 1


def test_the_text_is_all_that_was_written(server):
    plain = text_of(server, prompt=CHAT_TEXT)
    assert plain.startswith("12+7=19\n") and plain.endswith("\\boxed{19}")
    marked = text_of(server, prompt=CHAT_TEXT, skip_special_tokens=False)
    assert marked.replace("</think>", "") == plain != marked


@pytest.mark.parametrize(
    ("stop", "text"),
    [
        (["</think>"], "12+7=19\n"),
        (["7=", "+7"], "12"),
        ("=19", "12+7"),
        (["19\n</think>"], "12+7="),
        (["12"], ""),
    ],
)
def test_stop_strings_act_wherever_they_come_and_nothing_is_made_behind_them(server, stop, text):
    body = {"prompt": CHAT_TEXT, "seed": 3, "stop": stop, "skip_special_tokens": False}
    answer = server.whole(COMPLETIONS, body)
    assert answer["choices"][0]["text"] == text and answer["choices"][0]["finish_reason"] == "stop"
    made = server.whole("/tokenize", {"content": text})["count"]
    stops = [stop] if isinstance(stop, str) else stop
    longest = max(server.whole("/tokenize", {"content": one})["count"] for one in stops)
    assert answer["usage"]["completion_tokens"] <= made + longest


def test_prompts_and_choices_have_one_index_each_prompt_by_prompt(server):
    prompts = ["12+7=", "3*4=", "12+7="]
    body = {"seed": 5, "max_tokens": 8, "temperature": 2}
    answer = server.whole(COMPLETIONS, {**body, "prompt": prompts, "n": 2})
    assert [choice["index"] for choice in answer["choices"]] == list(range(6))
    texts = [choice["text"] for choice in answer["choices"]]
    for place, prompt in enumerate(prompts):
        alone = server.whole(COMPLETIONS, {**body, "prompt": prompt, "n": 2})["choices"]
        assert [choice["text"] for choice in alone] == texts[2 * place : 2 * place + 2]
    prompt_tokens = sum(server.whole("/tokenize", {"prompt": prompt})["count"] for prompt in prompts)
    assert answer["usage"]["prompt_tokens"] == prompt_tokens


def test_the_end_of_a_turn_can_be_ignored(server):
    answer = server.whole(COMPLETIONS, {"prompt": CHAT_TEXT, "seed": 3, "ignore_eos": True, "max_tokens": 40})
    assert answer["usage"]["completion_tokens"] == 40 and answer["choices"][0]["finish_reason"] == "length"


def test_a_prompt_that_does_not_fit_is_refused_with_its_name(server):
    for prompt in ([380] * 5000, [[380], [380] * 5000], "1+1 " * 2000):
        error = error_in(server.post(COMPLETIONS, {"prompt": prompt}), 400)
        assert error["code"] == "context_length_exceeded" and error["param"] == "prompt"


def test_an_empty_text_begins_with_the_bos(server):
    assert server.whole(COMPLETIONS, {"prompt": "", "max_tokens": 1})["usage"]["prompt_tokens"] == 1
    error = error_in(server.post(COMPLETIONS, {"prompt": "", "add_special_tokens": False}), 400)
    assert error["param"] == "prompt"
