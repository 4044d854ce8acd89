"""A mailbox holds no more than the answer, and nothing of it is lost or moved."""

from __future__ import annotations

import asyncio
import random

import pytest

from zaya_cli.serve.job import Job
from zaya_cli.serve.mailbox import Mailbox
from zaya_cli.serve.protocol.answers.choice_reader import ChoiceReader, Delta
from zaya_core.engine.events import (
    Event,
    Failed,
    Finished,
    PrefillProgress,
    Stats,
    TextEvent,
    ThinkingEnded,
    TokenEvent,
)
from zaya_core.engine.request import Request

STATS = Stats(1, 0, 1, 1, 0, 0.0, 0.0, 0.0, 0)


def mailbox(n=1, keeps_tokens=False):
    return Mailbox(Job("x", tuple(Request([1]) for _ in range(n)), keeps_tokens=keeps_tokens))


def taken(box):
    async def take():
        return [arrival async for arrivals in box.arrivals() for arrival in arrivals]

    return asyncio.run(take())


def test_text_that_waits_is_one_piece():
    box = mailbox()
    for place in range(1000):
        box.put(0, TokenEvent(0, place, -1.0))
        box.put(0, TextEvent(0, "thinking" if place < 500 else "answer", f"{place} "))
    box.put(0, Finished(0, "stop", STATS))
    whole = [" ".join(map(str, part)) + " " for part in (range(500), range(500, 1000))]
    assert taken(box) == [
        (0, TextEvent(0, "thinking", whole[0])),
        (0, TextEvent(0, "answer", whole[1])),
        (0, Finished(0, "stop", STATS)),
    ]


def test_only_the_last_of_several_progresses_waits():
    box = mailbox()
    for done in range(100):
        box.put(0, PrefillProgress(0, done, 100, 0))
    box.put(0, Finished(0, "stop", STATS))
    assert len(taken(box)) == 2


@pytest.mark.parametrize("case", range(20))
def test_however_slowly_it_is_taken_texts_and_tokens_are_the_same(case):
    """Tokens are told with the text that they were made into, or with a later one, never before their time."""
    chance = random.Random(case)
    events: list[Event] = []
    for place in range(200):
        if place == 80:
            events.append(ThinkingEnded(0, 80, 0.0))
        events.append(TokenEvent(0, place, -1.0))
        if chance.random() < 0.6:
            events.append(TextEvent(0, "thinking" if place < 80 else "answer", f"{place},"))
    events.append(Finished(0, "stop", STATS))

    async def read(is_slow):
        box, reader, deltas = mailbox(keeps_tokens=True), ChoiceReader({}, in_thinking=True), list[Delta]()

        async def take():
            async for arrivals in box.arrivals():
                deltas.extend(filter(None, (reader.take(event) for _, event in arrivals)))
                await asyncio.sleep(0)

        taking = asyncio.ensure_future(take())
        for event in events:
            box.put(0, event)
            if not is_slow or chance.random() < 0.1:
                await asyncio.sleep(0)
        await taking
        texts = {kind: "".join(d.text for d in deltas if d.kind == kind) for kind in ("thinking", "answer")}
        return texts, [token.token_id for delta in deltas for token in delta.tokens]

    quick, slow = asyncio.run(read(False)), asyncio.run(read(True))
    assert quick == slow
    assert quick[1] == list(range(80, 200))


def test_after_its_end_nothing_happens_to_a_choice():
    box = mailbox(2)
    box.put(0, Failed(0, ValueError()))
    box.put(0, TextEvent(0, "answer", "late"))
    assert box.open_choices == 1
    box.end(error := RuntimeError())
    box.put(1, TextEvent(1, "answer", "late"))
    assert [event for _, event in taken(box)][1:] == [Failed(-1, error)]


def test_silence_wakes_who_waits_and_a_cancelled_wait_ends():
    async def wait():
        box = mailbox()
        arrivals = box.arrivals(0.01)
        assert await arrivals.__anext__() == []
        waiting = asyncio.ensure_future(mailbox().arrivals(1000).__anext__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(wait())
