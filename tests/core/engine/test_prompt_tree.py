"""Laws of waiting prompts: where one parts from the others is what comparing it with each would say, at less cost."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from tests.core.engine.test_engine import ask
from tests.core.reading_model import ReadingModel
from zaya_core.engine.engine import Engine
from zaya_core.engine.prompt_tree import PromptTree
from zaya_core.text.known_ids import common_length


@pytest.mark.parametrize("seed", range(5))
def test_partings_are_the_common_lengths_with_all_others(seed):
    rng = random.Random(seed)
    tree = PromptTree()
    held: list[list[int]] = []
    for _ in range(300):
        prompt = [rng.randrange(2) for _ in range(rng.randrange(1, 12))]
        if held and rng.random() < 0.5:
            prompt = held.pop(rng.randrange(len(held)))
            tree.remove(prompt)
        else:
            held.append(prompt)
            tree.add(prompt)
        asked = [rng.randrange(2) for _ in range(rng.randrange(1, 12))]
        assert tree.partings(asked) == sorted({common_length(asked, other) for other in held})
    for prompt in held:
        tree.remove(prompt)
    assert tree.partings([0, 1]) == []


def lines_run(work: Callable[[], None]) -> int:
    """How many lines of Python the rooms' own files run: a measure of time that repeats."""
    count = 0

    def trace(frame: FrameType, kind: str, argument: Any) -> Any:
        nonlocal count
        if "zaya_core" not in frame.f_code.co_filename:
            return None
        count += kind == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def lines_for(tokenizer: Any, requests: int, cancels: bool) -> int:
    model: Any = ReadingModel(704)
    engine = Engine(model, tokenizer)
    shared = [300 + n % 50 for n in range(500)]
    prompts = [[*shared, 350 + n // 300, n % 300] for n in range(requests)]

    def work() -> None:
        ids = [engine.submit(ask(prompt, max_tokens=1)) for prompt in prompts]
        for id_ in ids if cancels else ():
            engine.cancel(ids[-1 - id_])
            engine.step()
        while not engine.is_idle:
            engine.step()

    return lines_run(work)


@pytest.mark.parametrize("cancels", [False, True])
def test_the_cost_of_requests_that_wait_grows_with_their_number_not_with_its_square(tokenizer, cancels):
    few, many = (lines_for(tokenizer, requests, cancels) for requests in (30, 120))
    assert many < 5 * few
