"""Which is faster for a model, the CPU or a card: some decode steps of a twentieth of ZAYA1-8B on both."""

from __future__ import annotations

import gc
import time
from contextlib import suppress
from typing import NamedTuple

import torch

from zaya_core.config.model_config import ModelConfig
from zaya_core.config.weight_formats import FAST_FORMATS, FLOAT, AnyFormat, DenseFormat
from zaya_core.errors import ZayaError
from zaya_core.machine.device import Speeds
from zaya_core.machine.gpus import first_line
from zaya_core.measure.bench import Bench
from zaya_core.measure.dummy import VOCABULARY, dummy_model

TWENTIETH = 20
_LAYERS = 40 // TWENTIETH
_VOCABULARY = -(-VOCABULARY // TWENTIETH // 16) * 16  # in whole tiles
_DEPTH, _STEPS = 64, 8  # tokens before, and steps that are timed together
_REPEATS, _PATIENCE = 5, 1.5  # at most so many times, and seconds on one device
_MOST_ROWS = 8  # more say little more


class Trial(NamedTuple):
    """What is compared. experts, dense: formats, the second of attention, embedding and head. rows: at once."""

    experts: AnyFormat
    dense: DenseFormat
    rows: int = 1

    def __str__(self) -> str:
        """For people."""
        formats = " with ".join(dict.fromkeys((self.experts, self.dense)))
        return formats if self.rows == 1 else f"{formats}, {self.rows} rows at once"


def trial_of(config: ModelConfig, rows: int | None) -> Trial | None:
    """How a model is compared; None for formats that no CPU has fast products of."""
    packed, rows = config.quantization, min(rows or 1, _MOST_ROWS)
    if packed is None:
        return Trial(FLOAT, FLOAT, rows)
    is_made_here = packed.is_ours and packed.experts in FAST_FORMATS
    return Trial(packed.experts, packed.dense or FLOAT, rows) if is_made_here else None


def decode_rate(trial: Trial, device: str) -> float:
    """Tokens per second of the whole model, by those of its twentieth: the best of some runs after a warm-up."""
    model = dummy_model(trial.experts, trial.dense, layers=_LAYERS, device=device, vocabulary=_VOCABULARY)
    case = Bench(model).decode(_STEPS, batch=trial.rows, depth=_DEPTH)
    case.rate()  # the path that is timed, once uncounted
    best, started, repeats = 0.0, time.perf_counter(), 0
    while repeats < _REPEATS and time.perf_counter() - started < _PATIENCE:
        best, repeats = max(best, case.rate()), repeats + 1
    return best / TWENTIETH


def measured_speeds(trial: Trial, card: str) -> Speeds | None:
    """Of both devices, the card first. None where the CPU cannot be measured, as without the memory for it.

    What fails on the card, whatever it is, is its `failure`.
    """
    try:
        on_card = decode_rate(trial, card)
    except Exception as error:
        return Speeds(0.0, 0.0, first_line(error))
    finally:
        _free()
    try:
        return Speeds(decode_rate(trial, "cpu"), on_card)
    except (ZayaError, MemoryError, RuntimeError):
        return None
    finally:
        _free()


def _free() -> None:
    """What was measured makes room for the model that comes."""
    gc.collect()
    if torch.cuda.is_initialized():
        with suppress(RuntimeError):  # after a failure a card may answer nothing any more
            torch.cuda.empty_cache()
