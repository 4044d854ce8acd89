"""LangChain's ChatOpenAI: answers, streams, usage, and errors that say what is not there."""

from __future__ import annotations

import asyncio
from functools import reduce
from operator import add

import pytest
from pydantic import BaseModel

langchain_openai = pytest.importorskip("langchain_openai", reason="the test extra is not installed")

QUESTION = "What is 12+7?"
ANSWER = "\\boxed{19}"


class Number(BaseModel):
    """What an answer is to be."""

    value: int


@pytest.fixture
def model(url):
    return chat_model(url)


def chat_model(url, **settings):
    return langchain_openai.ChatOpenAI(
        base_url=url, api_key="none", model="zaya", **{"temperature": 0, "max_retries": 0, **settings}
    )


def figures(message):
    usage = message.usage_metadata
    return usage["input_tokens"], usage["output_tokens"], usage["output_token_details"]["reasoning"]


def test_an_answer_and_its_usage(model):
    message = model.invoke([("system", "Be short."), ("human", QUESTION)])
    assert message.content and message.response_metadata["finish_reason"] == "stop"
    message = model.invoke(QUESTION)
    assert message.content == ANSWER and figures(message) == (19, 18, 9)
    assert message.response_metadata["model_name"] == "demo"


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_put_together_is_the_answer(url, usage):
    message = reduce(add, chat_model(url, stream_usage=usage).stream(QUESTION))
    assert message.content == ANSWER and message.response_metadata["finish_reason"] == "stop"
    assert figures(message) == (19, 18, 9) if usage else message.usage_metadata is None


def test_several_questions_at_once(model):
    assert [one.content for one in model.batch([QUESTION, "What is 3*4?"])] == [ANSWER, "\\boxed{12}"]


def test_async_streams(model):
    async def text():
        return "".join([chunk.content async for chunk in model.astream(QUESTION)])

    assert asyncio.run(text()) == ANSWER


def test_its_names_of_settings(url):
    message = chat_model(url, max_tokens=5, seed=3, n=1, stop=["#"], logprobs=True).invoke(QUESTION)
    assert figures(message)[1] == 5 and message.response_metadata["finish_reason"] == "length"


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output_is_refused_in_words(model, method):
    field = "tools" if method == "function_calling" else "response_format"
    with pytest.raises(Exception, match=f"501 - {field} is not supported by this server"):
        model.with_structured_output(Number, method=method).invoke(f"{QUESTION} Answer in JSON.")


def test_tools_are_refused_in_words_before_a_stream_begins(model):
    with pytest.raises(Exception, match="501 - tools is not supported by this server"):
        list(model.bind_tools([Number]).stream(QUESTION))
