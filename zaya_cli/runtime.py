"""Composition root: from the settings of a command to an Engine that is ready to answer."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zaya_cli.machine.hardware import memory_of
from zaya_cli.machine.threads import threads_to_use
from zaya_cli.models.fit_report import smallest_change
from zaya_cli.models.folder import find_model_folder, weight_bytes
from zaya_cli.models.inventory import choose, present_models
from zaya_cli.models.quantized_folder import find_quantized_folder
from zaya_cli.sizes import gigabytes
from zaya_cli.terminal.output import write_note
from zaya_core.config.kv_format import KVFormat
from zaya_core.config.parse import read_config
from zaya_core.config.weight_formats import FAST_FORMATS
from zaya_core.errors import MemoryFitError, UsageError
from zaya_core.machine.memory_fit import USUAL_CONTEXT, memory_need

if TYPE_CHECKING:
    from zaya_core.engine.engine import Engine
    from zaya_core.model.model import ZayaModel
    from zaya_core.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class RuntimeSettings:
    """What decides how a model is loaded."""

    model: str | None
    device: str
    dtype: str
    threads: int | None
    context: int | None
    quant: str | None = None
    force: bool = False
    kv: KVFormat = "auto"


@dataclass(frozen=True)
class Runtime:
    """A loaded model with its name and where it runs. `chosen_because`: why this one, where none was named."""

    engine: Engine
    folder: Path
    name: str
    threads: int
    load_seconds: float
    chosen_because: str | None = None


def open_runtime(settings: RuntimeSettings) -> Runtime:
    """Load tokenizer and model side by side. Raises the errors of both, and UsageError for impossible settings."""
    started = time.perf_counter()
    _check(settings)
    threads = threads_to_use(settings.threads)
    name, folder, chosen_because = _find(settings)
    with ThreadPoolExecutor(1) as background:  # the tokenizer's parsing runs while torch is imported
        tokenizer = background.submit(_load_tokenizer, folder)
        _check_memory(name, folder, settings)
        model = _load_model(folder, settings, threads)
        from zaya_core.engine.engine import Engine

        engine = Engine(model, tokenizer.result(), context=settings.context)
    _report_unknown_keys(model.config.unknown_keys)
    _report_template(engine.tokenizer)
    _report_notes(model, folder)
    _report_slow_format(model)
    _report_unused_gpu(settings.device)
    return Runtime(engine, folder, name, threads, time.perf_counter() - started, chosen_because)


def _find(settings: RuntimeSettings) -> tuple[str, Path, str | None]:
    """(name, folder, why this one). Without a name, the best present model that fits."""
    if settings.quant is not None:
        folder = find_quantized_folder(settings.model, settings.quant)
        return folder.name, folder, None
    if settings.model is not None:
        return settings.model, find_model_folder(settings.model), None
    choice = choose(present_models(), memory_of(settings.device), settings.context, settings.kv)
    return choice.model.name, choice.model.folder, choice.reason


def _check_memory(name: str, folder: Path, settings: RuntimeSettings) -> None:
    """Refuse what cannot fit unless forced; say when it is tight. See `zaya_core.machine.memory_fit`."""
    config = read_config(folder)
    if settings.context is not None and settings.context > config.max_position_embeddings:
        most = f"{config.max_position_embeddings:,}"
        raise UsageError(f"--ctx {settings.context} is too large: this model supports 2 to {most} tokens.")
    stored = weight_bytes(folder)
    memory = memory_of(settings.device)
    need = memory_need(config, stored, settings.context or USUAL_CONTEXT, settings.kv)
    verdict = need.verdict(memory.total, memory.free)
    if verdict == "fits" or settings.force:
        return
    numbers = f"{name} needs {gigabytes(need.total)} of memory"
    if verdict == "tight":
        free = gigabytes(memory.free)
        write_note(f"zaya: {numbers}, {free} are free: it will be slow while other programs hold the rest.")
        return
    help = smallest_change(config, stored, memory, settings.kv)
    raise MemoryFitError(
        f"{numbers}, and there are {gigabytes(memory.total)} ({memory.place}): "
        + (f"what would fit is {help}; " if help else "")
        + "--force tries all the same, reading the weights from the disk again and again."
    )


def _check(settings: RuntimeSettings) -> None:
    if settings.context is not None and settings.context < 2:
        raise UsageError(f"--ctx is {settings.context}; it must be 2 or more.")


def _load_tokenizer(folder: Path) -> Tokenizer:
    from zaya_core.text.tokenizer import load_tokenizer

    return load_tokenizer(folder)


def _load_model(folder: Path, settings: RuntimeSettings, threads: int) -> ZayaModel:
    import torch

    from zaya_core.kernels.resolve import products_in_use
    from zaya_core.load import load_model
    from zaya_core.machine.memory import keep_freed_memory, spare_the_collector

    products_in_use()  # what ZAYA_KERNELS asks for must be there
    keep_freed_memory()
    torch.set_num_threads(threads)
    model = load_model(folder, settings.device, settings.dtype, settings.kv)
    spare_the_collector()
    return model


def _report_unknown_keys(keys: tuple[str, ...]) -> None:
    if keys:
        write_note(f"zaya: config.json has settings that this program does not know: {', '.join(keys)}.")


def _report_template(tokenizer: Tokenizer) -> None:
    if (note := tokenizer.chat_template.note) is not None:
        write_note(f"zaya: {note}")


def _report_notes(model: ZayaModel, folder: Path) -> None:
    """What is odd in the folder and does no harm."""
    from zaya_core.engine.generation_config import read_sampling_defaults

    for note in (*model.notes, *read_sampling_defaults(folder).notes):
        write_note(f"zaya: {note}")


def _report_slow_format(model: ZayaModel) -> None:
    quantization = model.config.quantization
    if quantization is not None and model.device.type == "cpu" and quantization.experts not in FAST_FORMATS:
        kind = quantization.experts
        write_note(f"zaya: {kind} has no fast products on a CPU; {' and '.join(FAST_FORMATS)} are much faster there.")


def _report_unused_gpu(device: str) -> None:
    """A model never falls back to the CPU silently where there is a card."""
    from zaya_core.machine.device import unused_gpu

    reason = unused_gpu() if device == "auto" else None
    if reason is not None:
        write_note(f"zaya: computing on the CPU: {reason} (see `zaya doctor`; --device cpu accepts it).")
