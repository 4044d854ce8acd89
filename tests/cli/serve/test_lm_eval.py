"""lm-evaluation-harness with its remote tokenizer: the log-likelihoods are those of direct computation."""

from __future__ import annotations

import json

import pytest
import torch

from tests.cli.serve.in_process import asked

pytest.importorskip("lm_eval")
pytest.importorskip("tenacity")  # of its extra for servers

from lm_eval.api.instance import Instance
from lm_eval.models.api_models import JsonChatStr
from lm_eval.models.openai_completions import LocalChatCompletion, LocalCompletionsAPI

PAIRS = [
    ("What is 12+7?", " 19"),
    ("12+7=", "19"),
    ("12+7=", "20"),
    ("", "Hello"),
    ("é漢🙂", "🙂 x"),
    ("Line\n", "next line\n\n"),
    ("<|im_start|>user\nWhat is 12+7?<|im_end|>\n<|im_start|>assistant\n<think>\n", "12+7=19"),
]


def instance(kind, *arguments):
    return Instance(kind, {}, arguments, 0)


@pytest.mark.parametrize("together", [1, 4])
def test_log_likelihoods_equal_those_of_direct_computation(demo, url, together):
    harness = LocalCompletionsAPI(
        base_url=f"{url}/completions", tokenizer_backend="remote", model="x", max_retries=1, batch_size=together
    )
    found = harness.loglikelihood([instance("loglikelihood", *pair) for pair in PAIRS], disable_tqdm=True)
    for (context, continuation), (logprob, is_greedy) in zip(PAIRS, found, strict=True):
        if context:
            before, after = harness._encode_pair(context, continuation)
        else:
            before, after = [harness.prefix_token_id], harness.tok_encode(continuation)
        scores = torch.log_softmax(demo.engine.model(torch.tensor([[*before, *after]]))[0].float(), -1)
        own = scores[len(before) - 1 : -1]
        assert logprob == pytest.approx(float(own[range(len(after)), after].sum()), abs=1e-5)
        assert is_greedy == (own.argmax(-1).tolist() == list(after))


def test_answers_are_generated_from_prompts_and_from_chats(url):
    completions = LocalCompletionsAPI(
        base_url=f"{url}/completions", tokenizer_backend="remote", model="x", max_retries=1
    )
    settings = {"until": ["\n"], "max_gen_toks": 20, "temperature": 0}
    prompt = asked_text(completions)
    assert completions.generate_until([instance("generate_until", prompt, settings)], disable_tqdm=True) == ["12+7=19"]
    chats = LocalChatCompletion(base_url=f"{url}/chat/completions", model="x", max_retries=1)
    messages = JsonChatStr(json.dumps(asked()["messages"]))
    settings = {"until": [], "max_gen_toks": 256, "temperature": 0}
    assert chats.generate_until([instance("generate_until", messages, settings)], disable_tqdm=True) == ["\\boxed{19}"]


def asked_text(harness):
    """A chat as the text of a prompt, by the template that the server names."""
    return harness.tokenizer.apply_chat_template(asked()["messages"], add_generation_prompt=True)
