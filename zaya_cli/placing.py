"""Where a model is to lie, decided and said before it is loaded: on which device, and whether there is room."""

from __future__ import annotations

from concurrent.futures import Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING

from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.machine.hardware import Memory, memory_of_card, system_memory
from zaya_cli.models.card_fit import CardFit, CardUse, bound_card
from zaya_cli.models.fit_report import smallest_change
from zaya_cli.models.found import FoundModel
from zaya_cli.sizes import gigabytes
from zaya_cli.terminal.output import write_note
from zaya_core.errors import MemoryFitError
from zaya_core.machine.gpu_hardware import gpu_hardware
from zaya_core.machine.memory_fit import USUAL_CONTEXT, memory_need

if TYPE_CHECKING:
    from zaya_core.machine.device import DeviceChoice, Speeds
    from zaya_core.machine.gpus import Gpu
    from zaya_core.text.tokenizer import Tokenizer


def choose_device_for(
    found: FoundModel, settings: RuntimeSettings, use: CardUse, threads: int, tokenizer: Future[Tokenizer]
) -> DeviceChoice | str:
    """The device, and a line for each thing that a person should know of it; its name where there is nothing to choose.

    Never the CPU silently where there is a card.
    """
    if settings.device == "cpu" or (settings.device == "auto" and not gpu_hardware()):
        return settings.device
    from zaya_core.machine.device import choose_device

    def compare(gpu: Gpu) -> Speeds | None:
        from zaya_cli.machine.kernels import check_kernels
        from zaya_cli.machine.speeds import SpeedRecord
        from zaya_core.measure.cpu_or_card import trial_of

        trial = trial_of(found.config, use.rows)
        if trial is None:
            return None
        wait([tokenizer])  # it would slow the CPU down
        check_kernels(gpu)
        return SpeedRecord(gpu, threads).kept_or_measured(trial)

    def refuse(gpu: Gpu) -> str | None:
        return None if settings.force else _why_too_small(gpu, found, settings, use)

    choice = choose_device(settings.device, compare, refuse, or_cpu=_may_take_cpu(found, settings))
    for note in choice.notes:
        write_note(f"zaya: {note}")
    return choice


def _may_take_cpu(found: FoundModel, settings: RuntimeSettings) -> bool:
    """Whether the CPU is as good as a card that is too small: nothing was said of a card, and main memory has room."""
    need = memory_need(found.config, found.folder.weight_bytes, settings.context or USUAL_CONTEXT, settings.kv)
    host = system_memory()
    return not settings.card.are_given and need.verdict(host.total, host.free) != "does not fit"


def _why_too_small(gpu: Gpu, found: FoundModel, settings: RuntimeSettings, use: CardUse) -> str | None:
    """Why a card has no room for a model; None where it has."""
    context, kv, stored = settings.context or USUAL_CONTEXT, settings.kv, found.folder.weight_bytes
    memory = memory_of_card(gpu).at_most(use.gpu_memory)
    fit = CardFit.of(found.config, stored, memory, context, kv, use)
    if fit.fits:
        return None
    fewest = replace(use, cpu_experts=None)
    help = CardFit.of(found.config, stored, memory, context, kv, fewest).fits
    return f"{found.name} needs {fit.shortage}" + ("; --cpu-experts auto takes the card" if help else "")


def expect_room(found: FoundModel, settings: RuntimeSettings, memory: Memory, use: CardUse) -> CardFit | None:
    """Refuse what cannot fit unless forced; say when it is tight. See `zaya_core.machine.memory_fit`.

    What of the model is placed on the card, None where the CPU computes.
    """
    config = found.config
    settings.expect_context(config.max_position_embeddings)
    settings.card.expect_layers(config.num_hidden_layers)
    if memory.card is not None:
        return _check_card(found, settings, memory, use)
    settings.card.say_unused()
    stored = found.folder.weight_bytes
    need = memory_need(config, stored, settings.context or USUAL_CONTEXT, settings.kv)
    verdict = need.verdict(memory.total, memory.free)
    if verdict == "fits" or settings.force:
        return None
    numbers = f"{found.name} needs {gigabytes(need.total)} of memory"
    if verdict == "tight":
        free = gigabytes(memory.free)
        write_note(f"zaya: {numbers}, {free} are free: it will be slow while other programs hold the rest.")
        return None
    help = smallest_change(config, stored, memory, settings.kv)
    raise MemoryFitError(
        f"{numbers}, and there are {gigabytes(memory.total)} ({memory.place}): "
        + (f"what would fit is {help}; " if help else "")
        + "--force tries all the same, reading the weights from the disk again and again."
    )


def _check_card(found: FoundModel, settings: RuntimeSettings, memory: Memory, use: CardUse) -> CardFit:
    """Refuse what does not fit unless forced. See `zaya_core.machine.card_fit`."""
    context = settings.context or USUAL_CONTEXT
    fit = CardFit.of(found.config, found.folder.weight_bytes, memory, context, settings.kv, use)
    if not (settings.force or fit.fits):
        raise MemoryFitError(f"{fit.refusal(found.name)}; --force tries all the same.")
    bound_card(memory)
    return fit
