"""A card's kernels are used once before anybody waits for an answer: Triton compiles each when it is first launched."""

from __future__ import annotations

from collections.abc import Callable

import torch

from zaya_core.cache.cache import Cache
from zaya_core.engine.engine import Engine
from zaya_core.sampling.draw import RowDraw
from zaya_core.sampling.params import RandomKey, SamplingParams

_PROMPT = 32  # tokens: more than are multiplied as the rows of a step are
_BLOCKS = 3  # of a row, and of two that go on from it


@torch.inference_mode()
def warm_up(engine: Engine, on_progress: Callable[[str], None] = lambda doing: None) -> None:
    """A prompt, a step of one row with a token chosen, and a step of two where the pool has room; nothing is kept.

    on_progress: told what is compiled. Raises as the model does.
    """
    model, cache = engine.model, Cache.empty(engine.states)
    on_progress("kernels for prompts")
    model(torch.zeros(1, _PROMPT, dtype=torch.int64), cache, last_only=True, is_prompt=True)
    on_progress("kernels for one row")
    logits = model(torch.zeros(1, 1, dtype=torch.int64), cache)
    model.steps.draw(logits[:, 0], [RowDraw(SamplingParams(), RandomKey(0), 0)])
    if engine.max_rows > 1 and engine.states.pool.blocks_left >= _BLOCKS:
        on_progress("kernels for several rows")
        model(torch.zeros(2, 1, dtype=torch.int64), cache.fork(2))
