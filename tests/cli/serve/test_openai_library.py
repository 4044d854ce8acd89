"""OpenAI's own library against a server on loopback: what it reads, and how it takes errors."""

from __future__ import annotations

import itertools

import httpx2
import pytest

from tests.cli.serve.in_process import asked

openai = pytest.importorskip("openai")

MESSAGES = asked()["messages"]


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=url, api_key="DUMMY_KEY", max_retries=0) as client:
        yield client


def test_a_chat(client):
    answer = client.chat.completions.create(model="gpt-4o", messages=MESSAGES, seed=3, metadata={"a": "b"}, user="me")
    (choice,) = answer.choices
    assert choice.message.content == "\\boxed{19}" and choice.finish_reason == "stop"
    assert choice.message.reasoning_content == "12+7=19"
    assert answer.usage.completion_tokens_details.reasoning_tokens == 9
    assert answer.usage.total_tokens == 37 and answer.model == "demo"
    assert openai.types.chat.ChatCompletion.model_validate(answer.model_dump(), strict=True)


def test_a_stream(client):
    chunks = list(
        client.chat.completions.create(
            model="x", messages=MESSAGES, seed=3, stream=True, stream_options={"include_usage": True}
        )
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "\\boxed{19}"
    assert chunks[-1].usage.completion_tokens == 18 and not chunks[-1].choices


def test_a_stream_put_together_by_the_library_is_the_answer_that_is_given_at_once(client):
    fields = {"model": "x", "messages": MESSAGES, "seed": 3, "n": 3, "logprobs": True, "top_logprobs": 2}
    whole = client.chat.completions.create(**fields)
    with client.chat.completions.stream(**fields) as stream:
        for _ in stream:
            pass
        together = stream.get_final_completion()
    for one, other in zip(whole.choices, together.choices, strict=True):
        assert (one.index, one.finish_reason) == (other.index, other.finish_reason)
        assert one.message.content == other.message.content and other.message.role == "assistant"
        assert one.message.reasoning_content == other.message.reasoning_content
        assert one.logprobs.content == other.logprobs.content


def test_choices_and_log_probabilities(client):
    answer = client.chat.completions.create(
        model="x", messages=MESSAGES, seed=3, n=2, logprobs=True, top_logprobs=2, reasoning_effort="low"
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        entries = choice.logprobs.content
        assert b"".join(bytes(entry.bytes) for entry in entries).decode().lstrip("\n") == choice.message.content
        assert all(len(entry.top_logprobs) == 2 for entry in entries)


def test_completions(client):
    answer = client.completions.create(
        model="x", prompt=[[2, 380, 374], [2, 386]], max_tokens=1, temperature=0, logprobs=1, echo=True, seed=1234
    )
    assert [len(choice.logprobs.token_logprobs) for choice in answer.choices] == [4, 3]
    assert all(choice.logprobs.token_logprobs[0] is None for choice in answer.choices)
    chunks = client.completions.create(model="x", prompt="12+7=", max_tokens=5, stream=True, seed=3)
    text = "".join(chunk.choices[0].text for chunk in chunks)
    assert text == client.completions.create(model="x", prompt="12+7=", max_tokens=5, seed=3).choices[0].text


def test_models(client):
    (model,) = client.models.list().data
    assert model.id == "demo" and client.models.retrieve("demo") == model
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")


def test_errors_are_those_of_the_library(client):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="x", messages=[{"role": "user", "content": "1+1 " * 2000}])
    assert refused.value.code == "context_length_exceeded" and refused.value.param == "messages"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="x", messages=MESSAGES, temperature=-1)
    assert refused.value.param == "temperature" and refused.value.type == "invalid_request_error"
    with pytest.raises(openai.APIStatusError) as refused:
        client.embeddings.create(model="x", input="x")
    assert refused.value.status_code == 501


def test_a_stream_that_is_closed_frees_its_row(client, url):
    stream = client.chat.completions.create(
        model="x", messages=MESSAGES, logit_bias={"106": -100, "767": -100}, stream=True
    )
    assert len(list(itertools.islice(stream, 5))) == 5
    slots = f"{url.removesuffix('/v1')}/slots"
    assert any(slot["is_processing"] for slot in httpx2.get(slots).json())
    stream.close()
    for _ in range(500):
        if not any(slot["is_processing"] for slot in httpx2.get(slots).json()):
            return
    pytest.fail("the row is still taken")
