"""Composition root: from the settings of a command to an Engine that is ready to answer."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.machine.hardware import memory_of
from zaya_cli.machine.kernels import prepare_kernels, report_declined, warm_up_kernels
from zaya_cli.machine.threads import threads_to_use
from zaya_cli.models.card_fit import CardFit, room_on_card
from zaya_cli.models.choice import find_model
from zaya_cli.models.found import FoundModel
from zaya_cli.placing import choose_device_for, expect_room
from zaya_cli.terminal.interrupt import leaving_at_once
from zaya_cli.terminal.output import write_note
from zaya_core.config.weight_formats import FAST_FORMATS

if TYPE_CHECKING:
    from zaya_core.checkpoint.folder import ModelFolder
    from zaya_core.engine.engine import Engine
    from zaya_core.machine.device import DeviceChoice
    from zaya_core.model.model import ZayaModel
    from zaya_core.text.tokenizer import Tokenizer

_SHARE_OF_FREE_MEMORY = 0.8  # for keys and values; what is left is for activations


@dataclass(frozen=True)
class Runtime:
    """A loaded model, as it was found, and where it runs. cpu_experts: of so many layers the CPU computes the experts
    although the model is on a card."""

    engine: Engine
    found: FoundModel
    threads: int
    load_seconds: float
    cpu_experts: int = 0

    @property
    def name(self) -> str:
        """What the model is called for people."""
        return self.found.name

    @property
    def computed_by(self) -> str:
        """Who computes the model, and why."""
        steps = self.engine.model.steps
        return f"{steps.name} ({steps.reason})"

    @property
    def folder(self) -> ModelFolder:
        """The model's, with what has been read of it."""
        return self.found.folder


def open_runtime(settings: RuntimeSettings, rows: int | None = None, kv_memory: int | None = None) -> Runtime:
    """Load tokenizer and model side by side. Raises the errors of both, and UsageError for impossible settings.

    rows: most that run at once; keys and values then take no more than a share of the memory that is free, so that
    some of the rows may have to wait. None: the Engine's own. kv_memory: most bytes for keys and values, with rows.
    """
    started = time.perf_counter()
    settings.expect_context()
    use = settings.card.use(settings.dtype, rows)
    threads = threads_to_use(settings.threads)
    found = find_model(settings.model, settings.quant, settings.device, settings.context, settings.kv, use)
    with leaving_at_once(), ThreadPoolExecutor(1) as background:  # the tokenizer is parsed while torch is imported
        tokenizer = background.submit(_load_tokenizer, found)
        device = choose_device_for(found, settings, use, threads, tokenizer)
        settings = replace(settings, device=device if isinstance(device, str) else str(device.device))
        memory = memory_of(settings.device).at_most(use.gpu_memory)
        card = expect_room(found, settings, memory, use)
        prepare_kernels(settings.device, settings.card.graphs)
        cpu_experts = 0 if card is None else card.placed.cpu_experts
        with room_on_card(found.name, memory):
            model = _load_model(found, device, settings, threads, cpu_experts)
            engine = _engine(model, tokenizer.result(), settings, rows, card, kv_memory)
            warm_up_kernels(engine)
    _report_unknown_keys(model.config.unknown_keys)
    _report_template(engine.tokenizer)
    _report_notes(model, found.folder)
    _report_slow_format(model)
    report_declined(model)
    return Runtime(engine, found, threads, time.perf_counter() - started, cpu_experts)


def _engine(
    model: ZayaModel,
    tokenizer: Tokenizer,
    settings: RuntimeSettings,
    rows: int | None,
    card: CardFit | None,
    kv_memory: int | None,
) -> Engine:
    """The Engine with all its limits; see `open_runtime`."""
    from zaya_core.cache.arrangement import BLOCK
    from zaya_core.engine.engine import Engine
    from zaya_core.machine.watchdog import prefill_chunk
    from zaya_core.model.model import PREFILL_CHUNK

    chunk = prefill_chunk(model.device, PREFILL_CHUNK)
    if card is not None:
        longest = settings.context or model.config.max_position_embeddings
        blocks = min(card.pool_blocks(longest), _blocks_within(kv_memory, model))
        context = min(longest, BLOCK * blocks)  # an answer ends at what there is room for, as at any context
        return Engine(model, tokenizer, max_rows=card.placed.rows, chunk=chunk, context=context, max_blocks=blocks)
    if rows is None:
        return Engine(model, tokenizer, chunk=chunk, context=settings.context)
    room = int(_SHARE_OF_FREE_MEMORY * memory_of(settings.device).free)
    blocks = min(_blocks_within(room, model), _blocks_within(kv_memory, model))
    return Engine(model, tokenizer, max_rows=rows, chunk=chunk, context=settings.context, max_blocks=blocks)


def _blocks_within(room: int | None, model: ZayaModel) -> int:
    """Blocks of keys and values in so many bytes, at least one; as many as anybody wants without a limit."""
    return sys.maxsize if room is None else max(1, room // model.layout.bytes_per_block)


def _load_tokenizer(found: FoundModel) -> Tokenizer:
    from zaya_core.text.tokenizer import load_tokenizer

    return load_tokenizer(found.folder)


def _load_model(
    found: FoundModel, device: DeviceChoice | str, settings: RuntimeSettings, threads: int, cpu_experts: int
) -> ZayaModel:
    import torch

    from zaya_core.kernels.resolve import products_in_use
    from zaya_core.load import load_model
    from zaya_core.machine.memory import keep_freed_memory, spare_the_collector

    products_in_use()  # what ZAYA_KERNELS asks for must be there
    keep_freed_memory()
    torch.set_num_threads(threads)
    graphs = settings.card.graphs
    model = load_model(found.folder, device, settings.dtype, settings.kv, cpu_experts=cpu_experts, graphs=graphs)
    spare_the_collector()
    return model


def _report_unknown_keys(keys: tuple[str, ...]) -> None:
    if keys:
        write_note(f"zaya: config.json has settings that this program does not know: {', '.join(keys)}.")


def _report_template(tokenizer: Tokenizer) -> None:
    if (note := tokenizer.chat_template.note) is not None:
        write_note(f"zaya: {note}")


def _report_notes(model: ZayaModel, folder: ModelFolder) -> None:
    """What is odd in the folder and does no harm."""
    from zaya_core.engine.generation_config import read_sampling_defaults

    for note in (*model.notes, *read_sampling_defaults(folder).notes):
        write_note(f"zaya: {note}")


def _report_slow_format(model: ZayaModel) -> None:
    quantization = model.config.quantization
    if quantization is not None and model.device.type == "cpu" and quantization.experts not in FAST_FORMATS:
        kind = quantization.experts
        write_note(f"zaya: {kind} has no fast products on a CPU; {' and '.join(FAST_FORMATS)} are much faster there.")
