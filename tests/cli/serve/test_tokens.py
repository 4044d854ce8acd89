"""Tokens, templates, models and settings, by the names that other servers have for them."""

from __future__ import annotations

import pytest
from jinja2 import Environment, StrictUndefined

from tests.cli.serve.in_process import asked, error_in


def test_text_becomes_tokens_by_either_servers_names(server):
    vllm = server.whole("/tokenize", {"prompt": "12+7"})
    assert vllm == {"count": 5, "max_model_len": 4096, "tokens": [2, 380, 381, 374, 386]}
    assert server.whole("/tokenize", {"prompt": "12+7", "add_special_tokens": False})["tokens"] == vllm["tokens"][1:]
    assert server.whole("/tokenize", {"content": "12+7"})["tokens"] == vllm["tokens"][1:]
    assert server.whole("/tokenize", {"content": "12+7", "add_special": True})["tokens"] == vllm["tokens"]
    pieces = server.whole("/tokenize", {"content": "12+7", "with_pieces": True})["tokens"]
    assert pieces == [{"id": 380 + i, "piece": p} for i, p in ((0, "1"), (1, "2"), (-6, "+"), (6, "7"))]
    parts = server.whole("/tokenize", {"content": "漢", "with_pieces": True})["tokens"]
    assert b"".join(bytes(part["piece"]) for part in parts).decode() == "漢"
    strings = server.whole("/tokenize", {"prompt": "12", "return_token_strs": True})["token_strs"]
    assert strings == ["<bos>", "1", "2"]
    assert server.whole("/v1/tokenize", asked())["count"] == 19


def test_names_of_control_tokens_are_tokens_unless_they_are_to_be_text(server):
    end = server.get("/tokenizer_info").json()["eos_token"]
    assert server.whole("/tokenize", {"prompt": end, "add_special_tokens": False})["tokens"] == [106]
    assert len(server.whole("/tokenize", {"content": end, "parse_special": False})["tokens"]) > 1


def test_control_tokens_that_people_write_stay_text_in_a_chat(server):
    ids = server.whole("/tokenize", asked("<|im_end|>"))["tokens"]
    assert ids.count(106) == server.whole("/tokenize", asked("x"))["tokens"].count(106)


def test_tokens_become_the_text_that_they_came_from(server):
    text = "<bos>12+7<|im_end|>\n é漢"
    ids = server.whole("/tokenize", {"content": text})["tokens"]
    assert server.whole("/detokenize", {"tokens": ids}) == {"prompt": text, "content": text}
    assert server.whole("/detokenize", {"tokens": []}) == {"prompt": "", "content": ""}


@pytest.mark.parametrize("tokens", [None, "x", 1, ["x"], [1.5], [True], [-1], [768], [[1]]])
def test_what_are_no_tokens_is_refused(server, tokens):
    assert error_in(server.post("/detokenize", {"tokens": tokens}), 400)["param"] == "tokens"


@pytest.mark.parametrize("body", [{}, {"prompt": 5}, {"content": ["x"]}, {"prompt": "x", "add_special_tokens": 1}])
def test_what_is_no_text_is_refused(server, body):
    assert error_in(server.post("/tokenize", body), 400)["param"]


def test_the_remote_tokenizer_says_what_a_harness_asks(server):
    info = server.get("/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"]) == ("<bos>", "<|im_end|>")
    assert info["pad_token"] and "<|im_start|>" in info["chat_template"]
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(info["chat_template"])
    assert template.render(**asked(), add_generation_prompt=True) == server.whole("/apply-template", asked())["prompt"]


def test_a_template_is_written_without_an_answer(server):
    written = server.whole("/apply-template", asked())
    assert written["prompt"].startswith("<bos><|im_start|>user\nWhat is 12+7?<|im_end|>\n")
    assert written["prompt"].endswith("<|im_start|>assistant\n<think>\n")
    assert written["tokens"] == server.whole("/tokenize", asked())["tokens"]
    without = server.whole("/apply-template", asked(add_generation_prompt=False))
    assert without["prompt"].endswith("<|im_end|>\n")
    off = server.whole("/apply-template", asked(enable_thinking=False))
    assert off["prompt"].endswith("</think>\n\n")
    assert error_in(server.post("/apply-template", {}), 400)["param"] == "messages"


def test_the_model_is_listed_with_what_each_client_looks_for(server):
    listing = server.get("/v1/models").json()
    (entry,), (also,) = listing["data"], listing["models"]
    assert listing["object"] == "list" and also["name"] == "demo"
    assert {"id", "object", "created", "owned_by"} <= entry.keys() and entry["id"] == "demo"
    assert entry["max_model_len"] == entry["meta"]["n_ctx_train"] == 4096
    assert server.get("/v1/models/demo").json() == entry


def test_settings_name_no_path(demo, server):
    props = server.get("/props").json()
    assert props["total_slots"] == 4 and props["default_generation_settings"]["n_ctx"] == 4096
    assert props["default_generation_settings"]["params"]["temperature"] == 1.0
    assert props["model_alias"] == "demo" and props["modalities"] == {"vision": False, "audio": False}
    assert str(demo.found.path) not in server.get("/props").text
