"""Whole models in the check: the bundled demo, as it is and quantized, by the kernels and by torch on one device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from quant.kernels.resolve import VARIABLE, cpu_products
from zaya_core.config.graphs import Graphs
from zaya_core.errors import DeviceError
from zaya_core.load import load_model
from zaya_core.measure.card_check.check import Check
from zaya_core.measure.self_test import greedy
from zaya_core.model.model import ZayaModel
from zaya_core.quantize.job import QuantizationJob, QuantizeSettings
from zaya_core.quantize.run import quantize

TOKENS = 16
DEMO = Path(__file__).parents[2] / "bundled" / "demo"
_PROMPT = [2, *range(100, 117)]  # any ids: what is compared is computed from the same ones
# Of the logits' spread, at the position in the middle, since a near tie of two experts moves single ones. Rounding to
# bfloat16 takes 0.01 to 0.05, what is computed wrongly more than 1.
_TOLERANCE = 0.25
_REPLAYS = 2


def model_checks(folder: Path, tokens: int = TOKENS) -> list[Check]:
    """Of the demo in bf16, and with int4 experts and int8 attention. folder: an empty one, for the latter."""
    return [
        Check(f"{tokens} tokens of the demo", partial(_difference, DEMO, tokens), _TOLERANCE),
        Check(f"{tokens} tokens of the demo in int4", partial(_quantized_difference, folder, tokens), _TOLERANCE),
    ]


def graphs_fault(device: torch.device, tokens: int = TOKENS) -> str | None:
    """Whether replays of the recorded step choose other tokens than its launches one by one, in words; None if not.

    A graph that a model itself has found to be wrong, and does without, is at fault, too.
    """
    from quant.kernels.triton.launch import watched

    expected, _ = greedy(_loaded(DEMO, device, "triton", "off"), _PROMPT, tokens)
    model = _loaded(DEMO, device, "triton", "on")
    for replay in range(1, _REPLAYS + 1):
        launched: list[str] = []
        with watched(launched.append):
            found, _ = greedy(model, _PROMPT, tokens)
        if found != expected:
            alike = next(n for n, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other)
            return f"replay {replay} chose another token at position {alike}"
        if launched.count("graph") < tokens:
            return f"replay {replay} did not compute what its launches do"
    return None


def _quantized_difference(folder: Path, tokens: int, device: torch.device) -> float:
    quantized = folder / "demo-int4"
    quantize(QuantizationJob(DEMO, quantized, QuantizeSettings()), lambda progress: None)
    return _difference(quantized, tokens, device)


def _difference(folder: Path, tokens: int, device: torch.device) -> float:
    """Of the kernels' logits, step by step, from torch's of the same ids in one pass and in float32."""
    chosen, logits = greedy(_loaded(folder, device, "triton"), _PROMPT, tokens)
    with _kernels("torch"):
        model = load_model(folder, str(device), "float32")
        ids = torch.tensor([_PROMPT + chosen], device=model.device)
        expected = model(ids)[0, len(_PROMPT) - 1 :]
    return median_difference(logits, expected)


def median_difference(found: Tensor, expected: Tensor) -> float:
    """Of the positions' largest differences, as shares of the spread. found, expected: (T, V); T at least 1."""
    if not bool(torch.isfinite(found).all()):
        return float("inf")
    return float(((found - expected).abs().amax(1) / expected.std(1)).median())


def _loaded(folder: Path, device: torch.device, kernels: str, graphs: Graphs = "off") -> ZayaModel:
    """Raises DeviceError where the kernels leave the model to torch, which would be compared with itself."""
    with _kernels(kernels):
        model = load_model(folder, str(device), graphs=graphs)
    if model.steps.name != kernels:
        raise DeviceError(f"{model.steps.name} computes: {model.steps.reason}")
    return model


@contextmanager
def _kernels(wanted: str) -> Iterator[None]:
    """Models that are loaded within it are computed so, whatever this program's caller asks for."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = wanted
    cpu_products.cache_clear()
    try:
        yield
    finally:
        os.environ.pop(VARIABLE)
        if before is not None:
            os.environ[VARIABLE] = before
        cpu_products.cache_clear()
