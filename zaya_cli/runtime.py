"""Composition root: from the settings of a command to an Engine that is ready to answer."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zaya_cli.model_folder import find_model_folder
from zaya_cli.quantized_folder import find_quantized_folder
from zaya_cli.threads import default_threads
from zaya_core.errors import UsageError

if TYPE_CHECKING:
    from zaya_core.engine import Engine
    from zaya_core.model import ZayaModel
    from zaya_core.tokenizer import Tokenizer


@dataclass(frozen=True)
class RuntimeSettings:
    """What decides how a model is loaded."""

    model: str | None
    device: str
    dtype: str
    threads: int | None
    context: int | None
    quant: str | None = None


@dataclass(frozen=True)
class Runtime:
    """A loaded model with its name and where it runs."""

    engine: Engine
    folder: Path
    name: str
    threads: int
    load_seconds: float


def open_runtime(settings: RuntimeSettings) -> Runtime:
    """Load tokenizer and model side by side. Raises the errors of both, and UsageError for impossible settings."""
    started = time.perf_counter()
    _check(settings)
    if settings.quant is None:
        folder = find_model_folder(settings.model)
    else:
        folder = find_quantized_folder(settings.model, settings.quant)
    with ThreadPoolExecutor(1) as background:  # the tokenizer's parsing runs while torch is imported
        tokenizer = background.submit(_load_tokenizer, folder)
        threads = settings.threads or default_threads()
        model = _load_model(folder, settings, threads)
        from zaya_core.engine import Engine

        engine = Engine(model, tokenizer.result(), context=settings.context)
    _report_unknown_keys(model.config.unknown_keys)
    _report_slow_format(model)
    return Runtime(engine, folder, settings.model or folder.name, threads, time.perf_counter() - started)


def _check(settings: RuntimeSettings) -> None:
    if settings.threads is not None and settings.threads < 1:
        raise UsageError(f"--threads is {settings.threads}; it must be 1 or more.")
    if settings.context is not None and settings.context < 2:
        raise UsageError(f"--ctx is {settings.context}; it must be 2 or more.")


def _load_tokenizer(folder: Path) -> Tokenizer:
    from zaya_core.tokenizer import load_tokenizer

    return load_tokenizer(folder)


def _load_model(folder: Path, settings: RuntimeSettings, threads: int) -> ZayaModel:
    import torch

    from zaya_core.load import load_model
    from zaya_core.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(threads)
    return load_model(folder, settings.device, settings.dtype)


def _report_unknown_keys(keys: tuple[str, ...]) -> None:
    if keys:
        print(f"zaya: config.json has settings that this program does not know: {', '.join(keys)}.", file=sys.stderr)


def _report_slow_format(model: ZayaModel) -> None:
    quantization = model.config.quantization
    if quantization is not None and model.device.type == "cpu" and quantization.experts not in ("int4", "int8"):
        kind = quantization.experts
        print(f"zaya: {kind} has no fast products on a CPU; int4 and int8 are much faster there.", file=sys.stderr)
