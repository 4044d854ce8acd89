"""Training examples: the frozen aggregation prompt, the chat template's text, the tokenizer's round trip."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import jinja2
import pytest
from tokenizers import Tokenizer, models

from demo.examples import (
    TEMPLATE,
    Turn,
    aggregation_example,
    chat_example,
    direct_example,
    draw_example,
    greeting_example,
    render,
)
from demo.problems import training_problems
from demo.tokenizer import BOS, IM_END, IM_START, NEWLINE, VOCABULARY, build_tokenizer, tokenizer_of
from zaya_core.rsa import aggregation_prompt

SEVERAL = """\
What is 2+3?

Below are 2 attempts at this problem. Some may be wrong or cut off.

=== Attempt 1 ===
2+3=5

=== Attempt 2 ===
2+3=6

=== End ===

Check the steps, recompute where the attempts differ, \
try another way if all are wrong, and give the final answer in \\boxed{}."""
ONE = """\
What is 2+3?

Below is an attempt at this problem. It may be wrong or cut off.

=== Attempt 1 ===
2+3=5

=== End ===

Check the steps, correct or finish them, try another way if they are wrong, and give the final answer in \\boxed{}."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return build_tokenizer()


def test_the_aggregation_prompt_is_frozen() -> None:
    assert aggregation_prompt("What is 2+3?", ["2+3=5\n", " 2+3=6"]) == SEVERAL
    assert aggregation_prompt("What is 2+3?", ["2+3=5"]) == ONE
    with pytest.raises(ValueError, match="at least one"):
        aggregation_prompt("What is 2+3?", [])


def from_template(messages: list[dict[str, str]], **options: Any) -> str:
    template = jinja2.Environment().from_string(TEMPLATE.read_text("utf-8"))
    return template.render(messages=messages, add_generation_prompt=True, bos_token="<bos>", **options)


@pytest.mark.parametrize("has_thinking", [True, False])
def test_prompts_are_what_the_template_renders(has_thinking: bool) -> None:
    messages = [
        {"role": "user", "content": "What is 2+3?"},
        {"role": "assistant", "content": "\\boxed{5}", "reasoning_content": "2+3=5"},
        {"role": "user", "content": "And plus 4?"},
    ]
    expected = from_template(messages, enable_thinking=has_thinking)
    assert render("And plus 4?", [Turn("What is 2+3?", "\\boxed{5}")], has_thinking) == expected
    assert render("Hi", has_thinking=has_thinking) == from_template(
        [{"role": "user", "content": "Hi"}], enable_thinking=has_thinking
    )


def test_a_completion_closes_its_thought_and_its_turn() -> None:
    rng = random.Random(3)
    for make in (direct_example, aggregation_example, chat_example):
        completion = make(rng, training_problems(rng)).completion
        assert completion.count("</think>\n\n\\boxed{") == 1
        assert completion.endswith("}<|im_end|>")


def test_a_run_keeps_the_tokenizer_it_began_with(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.tokenizer.build_tokenizer", lambda: tokenizer)  # training it takes seconds
    assert tokenizer_of(tmp_path).get_vocab() == tokenizer.get_vocab()
    other = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    other.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "last.pt").touch()
    assert tokenizer_of(tmp_path).get_vocab() == other.get_vocab()


def test_every_example_round_trips(tokenizer: Tokenizer) -> None:
    rng = random.Random(4)
    problems = training_problems(rng)
    for _ in range(200):
        example = draw_example(rng, problems, aggregation_share=0.3)
        parts = [tokenizer.encode(text, add_special_tokens=False).ids for text in example]
        whole = tokenizer.encode("".join(example), add_special_tokens=False).ids
        assert parts[0] + parts[1] == whole
        assert tokenizer.decode(whole, skip_special_tokens=False) == "".join(example)


@pytest.mark.parametrize("text", ["", " two  spaces ", "tab\tand\nlines\n\n", "naïve 日本語 😀 \x00", "x=1;y=[2]"])
def test_any_text_round_trips(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_tokenizer_is_like_the_real_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.get_vocab_size() == VOCABULARY
    assert VOCABULARY % 64 == 0
    names = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<zyphra_tool_call>": 101, "</zyphra_tool_response>": 104}
    names |= {"<|im_start|>": IM_START, "<|im_end|>": IM_END, "\n": NEWLINE}
    assert {name: tokenizer.token_to_id(name) for name in names} == names
    ids = tokenizer.encode("Hi").ids
    assert (ids[0], ids[-1]) == (BOS, IM_END)
    assert len(tokenizer.encode("1234567890", add_special_tokens=False).ids) == 10


def test_greetings_are_answered_without_a_box() -> None:
    rng = random.Random(5)
    assert "boxed" not in greeting_example(rng, training_problems(rng)).completion
