"""Requests in random interleavings on pools that are too small, with faults: who survives says what it says alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from demo.evaluate import BUNDLED
from tests.core.reading_model import ReadingModel
from tests.fuzz.budget import rounds
from zaya_core.cache.arrangement import BLOCK
from zaya_core.engine.engine import Engine, Request
from zaya_core.engine.events import Event, Failed, Finished, PromptScored, TextEvent, TokenEvent
from zaya_core.errors import UsageError, ZayaError
from zaya_core.load import load_model
from zaya_core.sampling import draw
from zaya_core.sampling.params import SamplingParams
from zaya_core.text.splitter import split_text
from zaya_core.text.tokenizer import load_tokenizer

LONGEST = 3 * BLOCK
WRONG: list[dict[str, Any]] = [
    {"ids": ()}, {"ids": [-1]}, {"ids": [1.0]}, {"max_tokens": 0, "prompt_logprobs": None}, {"top_logprobs": -1},
    {"candidate": 1 << 64}, {"snapshot_at": (LONGEST + 1,)}, {"stop": ("",)}, {"thinking_budget": 1.5}, {"stage": -1},
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(BUNDLED)


@pytest.fixture(scope="module")
def bundled() -> Any:
    return load_model(BUNDLED, device="cpu")


class FaultyModel:
    """A model some of whose passes fail, while `rng` is there: no memory, a library's error, logits that are none."""

    def __init__(self, model: Any):
        self._model = model
        self.rng: random.Random | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        chance = 1.0 if self.rng is None else self.rng.random()
        if chance < 0.01:
            raise MemoryError
        logits = self._model(*arguments, **settings)
        if chance < 0.02:
            raise RuntimeError("can't allocate memory")  # behind the pass: the state has moved on
        if chance < 0.04 and self.rng is not None:
            logits = logits.clone()
            logits[self.rng.randrange(len(logits)), :, 7] = float("nan")
        return logits


@contextmanager
def failing_samplers(rng: random.Random) -> Iterator[None]:
    sampled = draw.draw_row

    def fail_sometimes(*asked: Any) -> Any:
        if rng.random() < 0.003:
            raise ValueError("a sampler's own fault")
        return sampled(*asked)

    draw.draw_row = fail_sometimes  # type: ignore[assignment]
    try:
        yield
    finally:
        draw.draw_row = sampled


Faulty: Any = FaultyModel  # it stands for a ZayaModel


class Case:
    """An Engine, what was asked of it, and what it reported."""

    def __init__(self, model: Any, tokenizer: Any, number: int):
        self.rng = rng = random.Random(number)
        self.max_blocks = random.Random(number).choice((1, 2, 3, 4, 6, 12, 40))
        self.model, self.tokenizer = Faulty(model), tokenizer
        self.chunk = rng.choice((7, 64, 200, 1024))
        self.engine = Engine(self.model, tokenizer, rng.choice((1, 2, 4, 16)), self.chunk, LONGEST, self.max_blocks)
        vocabulary = model.config.vocab_size
        self._beginnings = [[rng.randrange(vocabulary) for _ in range(LONGEST)] for _ in range(2)]
        self.asked: dict[int, Request] = {}
        self.events: dict[int, list[Event]] = {}
        self.cancelled: set[int] = set()
        self.steps = 0

    def request(self) -> Request:
        rng = self.rng
        shared = rng.choice(self._beginnings)[: rng.choice((0, 15, 16, 40, 255, 256, 257, 400))]
        own = [rng.randrange(self.model.config.vocab_size) for _ in range(rng.choice((1, 1, 2, 30, 220)))]
        ids = shared + own + rng.choice(([], [], [self.tokenizer.think_start_id]))
        return Request(
            ids,
            SamplingParams(rng.choice((0.0, 1.0)), seed=rng.randrange(4)),
            max_tokens=rng.choice((1, 2, 6, 20, 60)),
            stop=rng.choice(((), (), ("1",), ("the", "="))),
            thinking_budget=rng.choice((None, 0, 3)),
            answer_budget=rng.choice((None, None, 0, 4)),
            top_logprobs=rng.choice((0, 2)),
            snapshot_at=tuple(rng.sample(range(1, len(ids) + 1), rng.choice((0, 0, 1)))),
            keep_state=rng.random() < 0.3,
            candidate=rng.randrange(3),
            ignore_stop_ids=rng.random() < 0.5,
            **self.served(random.Random(f"{len(self.asked)} {self.steps} {self.max_blocks}")),
        )

    def served(self, rng: random.Random) -> dict[str, Any]:
        """What servers ask for besides, in one request of two."""
        if rng.random() < 0.5:
            return {}
        group = rng.choice(("", "", "a", "b"))
        return {
            "logit_bias": {rng.randrange(self.model.config.vocab_size): rng.uniform(-9, 9) for _ in range(3)},
            "stop_in_thinking": rng.choice(("end", "close")),
            "salt": rng.choice(("", "one", "two")),
            "prompt_logprobs": rng.choice((None, None, 0, 2)),
            "group": group,
            "group_rows": rng.choice((1, 2)) if group else None,
        }

    def play(self) -> None:
        for _ in range(self.rng.randrange(5, 40)):
            act = self.rng.choice((self.submit, self.submit, self.step, self.step, self.cancel, self.misuse, self.run))
            act()
        while not self.engine.is_idle:
            self.step()

    def submit(self) -> None:
        request = self.request()
        try:
            self.asked[self.engine.submit(request)] = request
        except ZayaError:  # larger than the pool
            assert len(request.ids) > BLOCK * self.max_blocks

    def step(self) -> None:
        for _ in range(self.rng.choice((1, 3, 10))):
            was_idle = self.engine.is_idle
            found = self.engine.step()
            self.steps += 1
            self.note(found)
            assert found or was_idle

    def note(self, found: list[Event]) -> None:
        assert self.engine.states.pool.blocks_in_use <= self.max_blocks
        for event in found:
            self.events.setdefault(event.request_id, []).append(event)

    def cancel(self) -> None:
        if self.asked and self.rng.random() < 0.5:
            chosen = self.rng.sample(sorted(self.asked), min(len(self.asked), self.rng.choice((1, 1, 5))))
            self.cancelled |= set(chosen)
            self.engine.cancel(*chosen)

    def misuse(self) -> None:
        open_before = self.engine.is_idle
        with pytest.raises(UsageError):
            self.engine.submit(replace(self.request(), **self.rng.choice(WRONG)))
        assert self.engine.is_idle == open_before

    def run(self) -> None:
        """`events` of what is open, sometimes left early."""
        mine = [id_ for id_ in self.asked if not ended(self.events.get(id_, []))]
        patience = self.rng.choice((3, 1000))
        for number, event in enumerate(self.engine.events(mine)):
            self.note([event])
            if number == patience:
                break
        self.cancelled |= {id_ for id_ in mine if not ended(self.events.get(id_, []))}
        for id_ in mine:  # their ends were not handed on
            if not ended(self.events.get(id_, [])):
                self.asked.pop(id_)
                self.events.pop(id_, None)

    def alone(self, request: Request) -> list[Event]:
        unbounded = Engine(self.model._model, self.tokenizer, context=LONGEST)
        return list(unbounded.generate([replace(request, keep_state=False)]))


def ended(events: list[Event]) -> bool:
    return any(isinstance(event, (Finished, Failed)) for event in events)


def said(events: list[Event]) -> list[int]:
    return [event.token_id for event in events if isinstance(event, TokenEvent)]


def texts(events: list[Event]) -> dict[str, str]:
    kinds = ("thinking", "answer")
    return {k: "".join(e.text for e in events if isinstance(e, TextEvent) and e.kind == k) for k in kinds}


def scores(events: list[Event]) -> list[tuple[int, float]]:
    """Id and log-probability of each prompt token; each is told once, in order."""
    told = [event for event in events if isinstance(event, PromptScored)]
    assert [event.start for event in told] == [1 + sum(len(e.tokens) for e in told[:n]) for n in range(len(told))]
    return [(token.token_id, token.logprob) for event in told for token in event.tokens]


def check(case: Case, request: Request, events: list[Event], was_cancelled: bool, has_faults: bool) -> None:
    assert [isinstance(event, (Finished, Failed)) for event in events] == [False] * (len(events) - 1) + [True]
    expected = case.alone(request)
    scored = scores(expected)
    for (id_, logprob), (same_id, same) in zip(scores(events), scored[: len(scores(events))], strict=True):
        assert id_ == same_id
        assert logprob == pytest.approx(same, abs=1e-4)
    tokens, end, last = said(events), events[-1], expected[-1]
    if isinstance(end, Failed):
        assert has_faults or len(request.ids) + 60 > BLOCK * case.max_blocks
        assert tokens == said(expected)[: len(tokens)]
        return
    assert isinstance(end, Finished)
    if end.reason == "cancelled":
        assert was_cancelled
        assert tokens == said(expected)[: len(tokens)]
        return
    assert tokens == said(expected)
    assert len(scores(events)) == len(scored) == (0 if request.prompt_logprobs is None else len(request.ids) - 1)
    assert texts(events) == texts(expected) == split_text(case.tokenizer, request.ids, tokens, request.stop)
    assert isinstance(last, Finished)
    stats = end.stats
    assert (end.reason, end.stopped_by) == (last.reason, last.stopped_by)
    assert stats.prompt_tokens == len(request.ids) == stats.cached_tokens + stats.prefilled_tokens
    assert (stats.completion_tokens, stats.thinking_tokens) == (
        last.stats.completion_tokens,
        last.stats.thinking_tokens,
    )
    assert stats.mean_logprob == pytest.approx(last.stats.mean_logprob, abs=1e-6)


def play(model: Any, tokenizer: Any, number: int) -> None:
    rng = random.Random(f"faults {number}")
    has_faults = rng.random() < 0.6
    case = Case(model, tokenizer, number)
    if has_faults:
        case.model.rng = rng
        with failing_samplers(rng):
            case.play()
    else:
        case.play()
    assert not set(case.asked) - set(case.events)
    work = sum(len(r.ids) // case.chunk + len(r.ids) // 16 + (r.max_tokens or 0) + 4 for r in case.asked.values())
    assert case.steps <= 100 + 3 * work
    for id_, request in case.asked.items():
        check(case, request, case.events[id_], id_ in case.cancelled, has_faults)
    case.engine.prefixes.clear()
    assert case.engine.states.pool.blocks_in_use == 0


def test_the_schedule_never_shows_in_a_text(tokenizer: Any) -> None:
    model = ReadingModel(768, LONGEST)
    for number in rounds(16):
        play(model, tokenizer, number)


def test_the_native_kernels_do_not_show_the_schedule_either(bundled: Any, tokenizer: Any) -> None:
    torch.set_num_threads(1)
    for number in rounds(3):
        play(bundled, tokenizer, 10_000 + number)
