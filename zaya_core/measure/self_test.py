"""A test of an installation in a few seconds: a small model must compute the same in one pass and step by step."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch

from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.load import load_model
from zaya_core.model.model import ZayaModel
from zaya_core.text.tokenizer import load_tokenizer

_QUESTION = "What is 2 + 3?"
_TOKENS = 16
_LARGEST_DIFFERENCE = 1e-3  # of float32 logits, relative to their spread


@dataclass(frozen=True)
class SelfTest:
    """Whether the test passed, what it saw, and how long it took in seconds."""

    passed: bool
    summary: str
    seconds: float


def self_test(folder: Path, device: str) -> SelfTest:
    """Load the model in `folder`, generate, and compare. Never raises: what goes wrong is the result."""
    started = time.perf_counter()
    try:
        passed, summary = _run(folder, device)
    except Exception as error:  # whatever is wrong with an installation is what is asked for here
        passed, summary = False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return SelfTest(passed, summary, time.perf_counter() - started)


def _run(path: Path, device: str) -> tuple[bool, str]:
    """In float32 both ways must agree; in the stored dtype, whose rounding may differ, logits must be finite."""
    folder = ModelFolder(path)
    ids = load_tokenizer(folder).render_chat([{"role": "user", "content": _QUESTION}])
    _, stored = greedy(load_model(folder, device), ids, _TOKENS)
    if not bool(torch.isfinite(stored).all()):
        return False, "some logits are not finite"
    model = load_model(folder, device, "float32")
    tokens, steps = greedy(model, ids, _TOKENS)
    whole = model(torch.tensor([ids + tokens], device=model.device))[0, len(ids) - 1 :]
    difference = float((steps - whole).abs().max() / whole.std())
    agrees = difference <= _LARGEST_DIFFERENCE  # False also for NaN
    relation = "equal" if agrees else "should equal"
    return agrees, f"{_TOKENS} tokens step by step {relation} one pass on {model.device} (difference {difference:.0e})"


def greedy(model: ZayaModel, ids: list[int], count: int) -> tuple[list[int], torch.Tensor]:
    """The `count` likeliest tokens after `ids`, and the logits before and after each: (count + 1, V) float32."""
    cache = model.new_cache()
    rows = [model(torch.tensor([ids], device=model.device), cache, last_only=True)[0, -1]]
    tokens: list[int] = []
    for _ in range(count):
        tokens.append(int(rows[-1].argmax()))
        rows.append(model(torch.tensor([tokens[-1:]], device=model.device), cache)[0, -1])
    return tokens, torch.stack(rows)
