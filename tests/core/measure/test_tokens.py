"""A tokenizer that is another model's is found before the model answers with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

import pytest

from demo.evaluate import BUNDLED
from tests.core.tokenizers_made_here import gemma_text, word_text, write_folder
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.config.parse import parse_config
from zaya_core.measure.checkup.golden import NOBODY, known
from zaya_core.measure.checkup.tokens import check_tokens
from zaya_core.measure.dummy import full_size_config
from zaya_core.text.template.built_in import BUILT_IN_TEMPLATE
from zaya_core.text.tokenizer import load_tokenizer

CONFIG = parse_config(full_size_config())
ZAYA = known(CONFIG, ["Zyphra/ZAYA1-8B"])
assert ZAYA.golden is not None
GOLDEN = ZAYA.golden
DEMO_CONFIG = ModelFolder(BUNDLED).config
DEMO = known(DEMO_CONFIG, [])


def by_state(found):
    return {state: [one.text for one in found if one.state == state] for state in ("problem", "note")}


@pytest.fixture
def demo_copy(tmp_path):
    """The bundled model's small files, to be changed."""
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        shutil.copy(BUNDLED / name, tmp_path)
    return tmp_path


def checked(folder, config=DEMO_CONFIG, what=DEMO):
    return list(check_tokens(load_tokenizer(folder), config, what))


def test_the_bundled_models_own_is_right(demo_copy):
    assert [(one.topic, one.text) for one in checked(demo_copy)] == [
        ("tokenizer", "768 tokens for 768 rows of the embedding"),
        ("template", "a turn ends with <|im_end|> (106), the EOS; answers begin inside of thinking"),
        ("token ids", "'What is 17 * 23?' and 7 control tokens have their known ids"),
    ]


def test_the_bundled_models_in_a_folder_of_published_sizes_is_another_models():
    tokenizer = load_tokenizer(BUNDLED)
    found = by_state(list(check_tokens(tokenizer, CONFIG, ZAYA)))
    assert found["problem"] == [
        "768 tokens for 262,272 rows of the embedding, most of which no token has: it is another model's",
        f"'Hello! How can I assist you today?' has other ids ({tokenizer.encode('Hello!')[0]} in place of 9259): the "
        "tokenizer is not ZAYA1-8B's",
    ]
    assert found["note"] == [
        "<think> is 766 in place of 262145, </think> is 767 in place of 262146 (expected, not published)"
    ]


def test_another_vocabulary_in_the_bundled_models_folder_is_another_models(tmp_path):
    shutil.copy(BUNDLED / "config.json", tmp_path)
    found = by_state(checked(write_folder(tmp_path, gemma_text(), chat_template=BUILT_IN_TEMPLATE)))
    ids = [text for text in found["problem"] if text.startswith("'What is 17 * 23?' has other ids (")]
    assert len(ids) == 1 and ids[0].endswith("the tokenizer is not the bundled demo's")
    assert any("<think> is" in text and "in place of 766" in text for text in found["problem"])


def moved(folder, **ids):
    """The tokenizer with other names at these ids."""
    path = folder / "tokenizer.json"
    raw = json.loads(path.read_text())
    for token in raw["added_tokens"]:
        token["content"] = ids.get(token["content"], token["content"])
    vocabulary = raw["model"]["vocab"]
    raw["model"]["vocab"] = {ids.get(name, name): id_ for name, id_ in vocabulary.items()}
    path.write_text(json.dumps(raw))


def test_control_tokens_that_have_changed_places_are_named(demo_copy):
    moved(demo_copy, **{"<|im_start|>": "<|im_end|>", "<|im_end|>": "<|im_start|>"})
    found = by_state(checked(demo_copy))
    assert found["problem"] == [
        "<|im_start|> is 106 in place of 105, <|im_end|> is 105 in place of 106: "
        "the tokenizer is not the bundled demo's"
    ]
    assert found["note"] == [
        "a turn ends with <|im_end|> (105); eos_token_id of config.json is 106, which is not asked for it"
    ]


def test_a_token_that_is_missing_is_named(demo_copy):
    moved(demo_copy, **{"<think>": "<thought>"})
    assert (
        "<think> is missing in place of 766: the tokenizer is not the bundled demo's"
        in by_state(checked(demo_copy))["problem"]
    )


def test_an_embedding_with_too_few_rows_is_another_models(demo_copy):
    found = checked(demo_copy, replace(DEMO_CONFIG, vocab_size=700), NOBODY)
    assert by_state(found)["problem"] == [
        "768 tokens for 700 rows of the embedding, which are too few: it is another model's"
    ]


@pytest.mark.parametrize("rows", [768, 800, 1024, 4864])
def test_rows_that_a_round_number_leaves_over_are_none(demo_copy, rows):
    assert by_state(checked(demo_copy, replace(DEMO_CONFIG, vocab_size=rows), NOBODY)) == {"problem": [], "note": []}


def test_a_template_whose_turns_do_not_end_is_a_problem(demo_copy):
    template = demo_copy / "chat_template.jinja"
    template.write_text(
        "{{ bos_token }}{% for message in messages %}{{ message.content }}<zyphra_tool_call>{% endfor %}"
    )
    found = by_state(checked(demo_copy))
    assert found["problem"] == [
        "a turn ends with <zyphra_tool_call> (101), at which generation does not stop: "
        "eos_token_id of config.json is 106"
    ]
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    assert by_state(checked(demo_copy))["problem"] == [
        "a turn ends with no control token: answers will not end by themselves"
    ]


@pytest.mark.parametrize(("begins", "count"), [("", 0), ("{{ bos_token }}{{ bos_token }}", 2)])
def test_a_prompt_has_one_bos(demo_copy, begins, count):
    template = demo_copy / "chat_template.jinja"
    template.write_text(begins + template.read_text().replace("{{ bos_token }}", "").replace("{{- bos_token }}", ""))
    found = by_state(checked(demo_copy))
    assert found["note"] == [f"a prompt has {count} BOS ids (2); one is right"]


def test_a_vocabulary_that_cannot_spell_everything_is_told_with_an_example(tmp_path):
    folder = write_folder(tmp_path, word_text(), chat_template=BUILT_IN_TEMPLATE)
    found = list(check_tokens(load_tokenizer(folder), replace(DEMO_CONFIG, vocab_size=6), NOBODY))
    assert any(one.state == "note" and "text changes when it is encoded and decoded: " in one.text for one in found)


class _Published:
    """Answers as ZAYA1-8B's tokenizer is known to."""

    vocab_size, bos_id, stop_ids, control_ids = 262_147, 2, frozenset({106}), frozenset({2, 105, 106, 262_145, 262_146})

    def __init__(self, **ids):
        self.ids = {**GOLDEN.tokens, **GOLDEN.probable_tokens, **ids}
        self.texts = {}

    def id_of(self, name):
        return self.ids.get(name)

    def encode(self, text):
        ids = GOLDEN.text_ids if text == GOLDEN.text else [1000 + len(self.texts)]
        self.texts[tuple(ids)] = text
        return list(ids)

    def decode(self, ids):
        return self.texts[tuple(ids)]

    def render_chat(self, messages, add_generation_prompt=True):
        return [2, 105, 9731, 107, 106, 107] + ([105, 262_145, 107] if add_generation_prompt else [])

    def token_text(self, id_):
        return next(name for name, other in self.ids.items() if other == id_)

    def starts_in_thinking(self, ids):
        return True


Published: Any = _Published  # stands for a Tokenizer


def test_a_tokenizer_that_gives_what_is_published_is_right():
    found = list(check_tokens(Published(), CONFIG, ZAYA))
    assert [one.state for one in found] == ["ok"] * 3
    assert found[-1].text == "'Hello! How can I assist you today?' and 3 control tokens have their known ids"


def test_ids_that_nobody_published_are_only_expected():
    found = list(check_tokens(Published(**{"</think>": 262_147}), CONFIG, ZAYA))
    assert [(one.state, one.text) for one in found if one.state != "ok"] == [
        ("note", "</think> is 262147 in place of 262146 (expected, not published)")
    ]


def test_another_model_of_these_sizes_may_have_another_tokenizer():
    base = known(CONFIG, ["Zyphra/ZAYA1-base"])
    assert not [
        one
        for one in check_tokens(load_tokenizer(BUNDLED), CONFIG, base)
        if "ids" in one.topic and one.state == "problem"
    ]
