"""Whether what computes here computes the model: one pass, step by step, and float32 from the files must agree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zaya_core.checkpoint.checkpoint import Checkpoint
from zaya_core.config.model_config import ModelConfig
from zaya_core.measure.checkup.exact import exact_model
from zaya_core.measure.checkup.finding import Finding, State
from zaya_core.model.model import ZayaModel

_PROMPT = 2  # tokens; each of the others is a step
_SUSPICIOUS, _WRONG = 0.05, 0.5  # nats, of the median position: rounding of activations stays far below


def compare_with_steps(model: ZayaModel, ids: Sequence[int]) -> tuple[Tensor, Finding]:
    """The logits of one pass (T, V) float32 on the CPU, and how far those of single steps are from them."""
    whole = model(torch.tensor([ids]), is_prompt=True)[0].cpu()
    cache = model.new_cache()
    rows = [model(torch.tensor([ids[:_PROMPT]]), cache)[0]]
    rows += [model(torch.tensor([[id_]]), cache)[0] for id_ in ids[_PROMPT:]]
    return whole, _verdict("steps", "step by step and one pass", whole, torch.cat(rows).cpu())


def compare_with_reference(config: ModelConfig, checkpoint: Checkpoint, ids: Sequence[int], whole: Tensor) -> Finding:
    """How far the logits of a pass, (T, V), are from those of the float32 reference on the CPU."""
    exact = exact_model(config, checkpoint)(torch.tensor([ids]))[0]
    return _verdict("reference", "this and float32 from the files", exact, whole)


_RELATIONS: dict[State, str] = {
    "ok": "agree",
    "note": "differ more than rounding explains",
    "problem": "do not agree, a fault of zaya: please report it",
}


def _verdict(topic: str, what: str, exact: Tensor, other: Tensor) -> Finding:
    """By the median: a router that chooses another expert in a near tie changes single positions and is no fault."""
    if not (bool(torch.isfinite(exact).all()) and bool(torch.isfinite(other).all())):
        return Finding(topic, f"{what} cannot be compared: some logits are not finite", "problem")
    logs, others = exact.double().log_softmax(-1), other.double().log_softmax(-1)
    kl = (logs.exp() * (logs - others)).sum(-1)
    median, largest = float(kl.median()), float(kl.max())
    difference = float((exact - other).abs().max())
    state: State = "ok" if median <= _SUSPICIOUS else "note" if median <= _WRONG else "problem"
    numbers = f"KL {_small(median)}, at most {_small(largest)}; logits within {difference:.2f}"
    return Finding(topic, f"{what} {_RELATIONS[state]}: {numbers}", state)


def _small(nats: float) -> str:
    return f"{max(nats, 0.0):.0e}" if nats < 0.01 else f"{nats:.2f}"
