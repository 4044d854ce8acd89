"""Our own client of servers, `zaya run --rsa N --endpoint`, against our own server."""

from __future__ import annotations

import threading

import httpx2
import pytest

from tests.cli.serve.in_process import asked
from zaya_core.rsa.endpoint.generator import EndpointGenerator
from zaya_core.rsa.endpoint.server import Finder
from zaya_core.rsa.rollouts import Rollout, RolloutFinished, RolloutRequest
from zaya_core.sampling.params import SamplingParams

pytest.importorskip("openai")


def test_the_client_finds_it_and_speaks_its_best_dialect(demo, url):
    finder = Finder(demo.engine.tokenizer, None, retries=0, silence=20.0, wait=threading.Event.wait)
    for given in (url, url.removesuffix("/v1")):
        server = finder.find(given)
        assert (server.model, server.context) == ("demo", 4096)
        assert server.dialect.kind == "ids" and server.dialect.extended and server.dialect.asks_usage
        assert server.dialect.marks_end and not server.dialect.drops_bos


def test_the_client_counts_the_same_tokens_in_a_prompt_that_is_text(demo, url):
    tokenizer = demo.engine.tokenizer
    text = tokenizer.render_chat_text(asked()["messages"])
    answer = httpx2.post(f"{url}/completions", json={"prompt": text, "max_tokens": 1}).json()
    assert answer["usage"]["prompt_tokens"] == len(tokenizer.render_chat(asked()["messages"]))


def test_rollouts_think_to_the_marker_and_then_answer(demo, url):
    generator = EndpointGenerator(url, demo.engine.tokenizer, 4096, retries=0, timeout=20.0)
    assert generator.notes == []
    for candidate in range(3):
        request = RolloutRequest(0, candidate, (), asked()["messages"], 200, 100, 50, 0, SamplingParams(seed=3))
        generator.submit(request)
    finished: list[Rollout] = []
    while len(finished) < 3:
        finished += [event.rollout for event in generator.advance() if isinstance(event, RolloutFinished)]
    for rollout in finished:
        assert rollout.state == "done", rollout
        assert rollout.thinking.startswith("12+7=") and "boxed" in rollout.answer
        assert not rollout.is_estimate and rollout.mean_logprob is not None
