"""Log-probabilities are the Engine's, with bytes that spell exactly what was chosen."""

from __future__ import annotations

import itertools

import pytest
import torch

from tests.cli.serve.in_process import asked, error_in
from tests.cli.serve.test_same_text import by_the_engine
from zaya_cli.serve.protocol.answers.logprobs import LegacyLogprobs, chat_logprobs, finite, token_name
from zaya_core.engine.events import TokenEvent

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


def test_a_chat_has_those_of_its_answer_as_the_engine_has_them(demo, own_server):
    body = asked(seed=3, logprobs=True, top_logprobs=3, max_tokens=300, thinking_budget=280)
    tokens = by_the_engine(demo, "What is 12+7?", 3, top_logprobs=3, thinking_budget=280)[3]
    end = [token.token_id for token in tokens].index(demo.engine.tokenizer.think_end_id)
    server = own_server()
    content = server.whole(CHAT, body)["choices"][0]["logprobs"]["content"]
    assert [entry["logprob"] for entry in content] == [token.logprob for token in tokens[end + 1 :]]
    assert [[top["logprob"] for top in entry["top_logprobs"]] for entry in content] == [
        [logprob for _, logprob in token.top_logprobs] for token in tokens[end + 1 :]
    ]
    spelled = b"".join(bytes(entry["bytes"]) for entry in content).decode()
    assert spelled.lstrip("\n") == "\\boxed{19}"
    chunks = server.streamed(CHAT, body)
    told = [c["logprobs"]["content"] for chunk in chunks for c in chunk["choices"] if c["logprobs"]]
    assert list(itertools.chain(*told)) == content


def test_without_asking_there_are_none(server):
    assert server.chat(seed=3)["choices"][0]["logprobs"] is None
    assert server.chat(seed=3, logprobs=False)["choices"][0]["logprobs"] is None
    entries = server.chat(seed=3, logprobs=True)["choices"][0]["logprobs"]["content"]
    assert entries and all(entry["top_logprobs"] == [] for entry in entries)


def test_parts_of_characters_have_names_and_bytes_of_their_own(demo):
    tokenizer = demo.engine.tokenizer
    halves = [id_ for id_ in range(tokenizer.vocab_size) if b"\x80" <= tokenizer.bytes_of(id_) < b"\xff\x00"]
    names = [token_name(tokenizer, id_) for id_ in halves]
    assert len(halves) > 100 and len(set(names)) == len(names)
    assert all("\ufffd" not in name for name in names)
    content = chat_logprobs(tokenizer, [TokenEvent(0, id_, -1.0) for id_ in halves])["content"]
    assert [bytes(entry["bytes"]) for entry in content] == [tokenizer.bytes_of(id_) for id_ in halves]


def test_a_dictionary_of_likeliest_tokens_has_a_key_for_each_and_one_is_the_chosen(demo):
    tokenizer = demo.engine.tokenizer
    ids = list(range(tokenizer.vocab_size))
    likeliest = tuple((id_, -0.01 * id_) for id_ in ids[:-1])
    lists = LegacyLogprobs(tokenizer, True).of([TokenEvent(0, ids[-1], -99.0, likeliest)])
    (dictionary,), (name,) = lists["top_logprobs"], lists["tokens"]
    assert len(dictionary) == len(ids)
    assert dictionary[name] == lists["token_logprobs"][0] == -99.0


def test_what_could_not_be_chosen_has_a_number_that_json_can_express():
    assert finite(float("-inf")) == -9999.0 and finite(-2.5) == -2.5


@pytest.mark.parametrize("logprobs", [0, 1, 5])
def test_an_echo_with_logprobs_is_real(demo, server, logprobs):
    ids = [2, 380, 381, 374, 386, 394, 107, 380]
    body = {"prompt": [ids], "max_tokens": 1, "temperature": 0, "logprobs": logprobs, "echo": True, "seed": 1234}
    (choice,) = server.whole(COMPLETIONS, body)["choices"]
    lists = choice["logprobs"]
    assert {len(values) for values in lists.values()} == {len(ids) + 1}
    assert lists["token_logprobs"][0] is None and lists["top_logprobs"][0] is None
    scores = torch.log_softmax(demo.engine.model(torch.tensor([ids]))[0].float(), -1)
    direct = [float(scores[place, id_]) for place, id_ in enumerate(ids[1:])]
    assert lists["token_logprobs"][1:-1] == pytest.approx(direct, abs=1e-5)
    for place, (top, chosen) in enumerate(zip(lists["top_logprobs"][1:-1], lists["token_logprobs"][1:-1], strict=True)):
        assert chosen in top.values()
        is_greedy = int(scores[place].argmax()) == ids[place + 1]
        assert is_greedy == (max(top.values()) == chosen) or logprobs == 0
    assert choice["text"].startswith("12+7") and choice["text"] == "".join(
        choice["text"][a:b] for a, b in itertools.pairwise([*lists["text_offset"], len(choice["text"])])
    )


def test_prompts_are_scored_each_by_itself_and_in_order(server):
    prompts = [[2, 380, 381, 374], [2, 386, 394], [2, 380, 381, 374]]
    body = {"max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True}
    together = server.whole(COMPLETIONS, {**body, "prompt": prompts})["choices"]
    assert [choice["index"] for choice in together] == [0, 1, 2]
    for prompt, choice in zip(prompts, together, strict=True):
        alone = server.whole(COMPLETIONS, {**body, "prompt": prompt})["choices"][0]
        assert choice["logprobs"] == alone["logprobs"] and choice["text"] == alone["text"]


def test_a_prompt_is_scored_whole_whatever_is_kept_of_it(server):
    body = {"prompt": [2, *[380, 374] * 30], "max_tokens": 1, "temperature": 0}
    server.whole(COMPLETIONS, body)
    scored = {**body, "logprobs": 1, "echo": True}
    first, second = (server.whole(COMPLETIONS, scored)["choices"][0]["logprobs"] for _ in range(2))
    assert first == second and len(first["token_logprobs"]) == 62


def test_a_prompt_may_be_scored_without_an_answer(server):
    body = {"prompt": [2, 380, 374], "max_tokens": 0, "logprobs": 1, "echo": True}
    answer = server.whole(COMPLETIONS, body)
    assert answer["usage"]["completion_tokens"] == 0
    assert len(answer["choices"][0]["logprobs"]["token_logprobs"]) == 3
    assert error_in(server.post(COMPLETIONS, {"prompt": [2], "max_tokens": 0}), 400)["param"] == "max_tokens"


def test_an_echo_without_logprobs_is_the_prompt_and_the_answer(server):
    body = {"prompt": "12+7=", "max_tokens": 4, "temperature": 0}
    answer = server.whole(COMPLETIONS, body)["choices"][0]["text"]
    assert server.whole(COMPLETIONS, {**body, "echo": True})["choices"][0]["text"] == "12+7=" + answer
    alone = server.whole(COMPLETIONS, {**body, "echo": True, "max_tokens": 0})["choices"][0]
    assert alone["text"] == "12+7="
