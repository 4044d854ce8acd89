"""The requests of a soak, by class, and what is wrong with their answers."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import httpx2

from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.runtime import open_runtime
from zaya_core.engine.engine import Request
from zaya_core.engine.events import TextEvent
from zaya_core.sampling.params import SamplingParams

# Shares of the requests.
CLASSES = {
    "streamed": 45, "whole": 18, "left": 17, "two choices": 6, "damaged": 6, "too long": 5, "slow reader": 3
}  # fmt: skip
_QUESTIONS = [f"What is {a}{sign}{b}?" for a, sign, b in [(12, "+", 7), (3, "*", 4), (100, "-", 1), (5, "+", 5)]]
_DAMAGED = (b"", b"{", b"[]", b"\xff\xfe{}", b'{"messages": 3}', b'{"messages": []}', b'{"n": ' + b"[" * 5000)
_TOKENS, _CHAT = 120, "/v1/chat/completions"


def answers_of_the_engine(model: str) -> dict[str, str]:
    """By question: thinking and answer, greedy."""
    engine = open_runtime(RuntimeSettings(model=model), rows=1).engine
    greedy = SamplingParams(temperature=0)

    def text(question: str) -> str:
        ids = engine.tokenizer.render_chat([{"role": "user", "content": question}])
        request = Request(ids, greedy, max_tokens=_TOKENS, thinking_budget=_TOKENS // 2, stop_in_thinking="close")
        return "".join(event.text for event in engine.generate([request]) if isinstance(event, TextEvent))

    return {question: text(question) for question in _QUESTIONS}


def _text(message: dict[str, Any]) -> str:
    return (message.get("reasoning_content") or "") + (message.get("content") or "")


class Traffic:
    """Sends requests. expected: thinking and answer by question."""

    def __init__(self, client: httpx2.AsyncClient, expected: dict[str, str]):
        self._client, self._expected = client, expected

    async def one(self, name: str, rng: random.Random) -> str | None:
        """A request of a class -> what is wrong. Raises httpx2.HTTPError when the connection is lost."""
        question = rng.choice(_QUESTIONS)
        if name == "damaged":
            return await self._refused(rng.choice(_DAMAGED))
        if name == "too long":
            return await self._refused(json.dumps({**_body("1+1 " * 250_000)}).encode())
        if name in ("whole", "two choices"):
            return await self._whole(question, 2 if name == "two choices" else 1)
        if name == "left":
            return await self._leave(question, rng.random() * 0.1)
        return await self._streamed(question, 0.02 if name == "slow reader" else 0.0)

    async def _refused(self, content: bytes) -> str | None:
        response = await self._client.post(_CHAT, content=content)
        return None if response.status_code == 400 and "error" in response.json() else str(response.status_code)

    async def _whole(self, question: str, n: int) -> str | None:
        response = await self._client.post(_CHAT, json={**_body(question), "n": n})
        if response.status_code != 200:
            return str(response.status_code)
        texts = [_text(choice["message"]) for choice in response.json()["choices"]]
        return None if texts == [self._expected[question]] * n else "another answer than the Engine's"

    async def _streamed(self, question: str, pause: float) -> str | None:
        text, last = "", ""
        async with self._client.stream("POST", _CHAT, json={**_body(question), "stream": True}) as response:
            if response.status_code != 200:
                return str(response.status_code)
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    text += "".join(_text(choice["delta"]) for choice in json.loads(line[6:])["choices"])
                last = line or last
                await asyncio.sleep(pause)
        if last != "data: [DONE]":
            return "a stream without [DONE]"
        return None if text == self._expected[question] else "another stream than the Engine's"

    async def _leave(self, question: str, after: float) -> str | None:
        """Go away at a moment; an answer that was there before is right as well."""
        try:
            return await asyncio.wait_for(self._streamed(question, 0.0), after)
        except (TimeoutError, asyncio.TimeoutError):
            return None


def _body(question: str) -> dict[str, Any]:
    sampling = {"temperature": 0, "max_tokens": _TOKENS, "thinking_budget": _TOKENS // 2}
    return {"messages": [{"role": "user", "content": question}], **sampling}
