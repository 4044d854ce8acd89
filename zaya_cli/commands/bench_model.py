"""What `zaya bench` measures: a model of this machine, or random weights of ZAYA1-8B's sizes."""

from __future__ import annotations

from dataclasses import replace

from zaya_cli.flags.bench import BenchSettings
from zaya_cli.machine.hardware import Memory, memory_of
from zaya_cli.machine.kernels import prepare_kernels, report_declined
from zaya_cli.models.card_fit import CardFit, CardUse, bound_card, room_on_card
from zaya_cli.models.choice import find_model
from zaya_cli.models.found import FoundModel
from zaya_cli.terminal.output import write_note
from zaya_cli.terminal.progress import ProgressLine
from zaya_core.config.parse import parse_config
from zaya_core.config.weight_formats import DEFAULT_DENSE, DEFAULT_EXPERTS, EXPERT_FORMATS, FLOAT
from zaya_core.errors import MemoryFitError, UsageError
from zaya_core.load import load_model
from zaya_core.machine.device import choose_device
from zaya_core.machine.memory_fit import loaded_bytes
from zaya_core.measure.dummy import dummy_model, full_size_config
from zaya_core.model.model import ZayaModel


def open_model(settings: BenchSettings, context: int) -> tuple[ZayaModel, str, int]:
    """The model, its name, and of how many layers the experts are in main memory beside a card, with a line for each
    thing that a person should know of the device. context: tokens of the longest row that is measured.

    Raises: MemoryFitError for what does not fit on a card; UsageError; the errors of `choose_device` and of loading.
    """
    use = settings.card.use()
    choice = choose_device(settings.device)
    for note in choice.notes:
        write_note(f"zaya: {note}")
    memory = memory_of(settings.device).at_most(use.gpu_memory)
    if memory.card is None:
        settings.card.say_unused()
    model, name, layers = (_dummy if settings.dummy else _present)(settings, use, memory, context, str(choice.device))
    report_declined(model)
    return model, name, layers


def _dummy(
    settings: BenchSettings, use: CardUse, memory: Memory, context: int, device: str
) -> tuple[ZayaModel, str, int]:
    name, quant = "random weights", settings.quant or DEFAULT_EXPERTS
    dense = settings.dense or (DEFAULT_DENSE if quant in EXPERT_FORMATS else FLOAT)
    config = parse_config(full_size_config(experts=quant, dense=dense))
    settings.card.expect_layers(config.num_hidden_layers)
    layers = 0
    if memory.card is not None:
        fit = CardFit.of(config, loaded_bytes(config), memory, context, settings.kv, use)
        layers = _fitting(replace(fit, made_by="zaya bench --dummy --quant"), f"a model of {name}")
    prepare_kernels(device, settings.card.graphs)
    with room_on_card(f"a model of {name}", memory), ProgressLine() as line:
        progress = line.counting(f"making {name}")
        model = dummy_model(
            quant,
            dense,
            device=settings.device,
            on_progress=progress,
            kv=settings.kv,
            cpu_experts=layers,
            graphs=settings.card.graphs,
        )
    return model, name, layers


def _present(
    settings: BenchSettings, use: CardUse, memory: Memory, context: int, device: str
) -> tuple[ZayaModel, str, int]:
    found = _find(settings, use)
    settings.card.expect_layers(found.config.num_hidden_layers)
    layers = 0
    if memory.card is not None:
        fit = CardFit.of(found.config, found.folder.weight_bytes, memory, context, settings.kv, use)
        layers = _fitting(fit, found.name)
    prepare_kernels(device, settings.card.graphs)
    with room_on_card(found.name, memory):
        model = load_model(
            found.folder, settings.device, kv=settings.kv, cpu_experts=layers, graphs=settings.card.graphs
        )
    return model, found.name, layers


def _find(settings: BenchSettings, use: CardUse) -> FoundModel:
    """The model that `zaya run` would take."""
    if settings.dense is not None:
        raise UsageError("--dense is a format of random weights: add --dummy, or leave it out.")
    if settings.quant is not None and settings.quant not in EXPERT_FORMATS:
        raise UsageError(
            f"--quant {settings.quant} is a format of random weights here, since zaya quantizes to none of it: add "
            "--dummy, or name the folder with --model."
        )
    return find_model(settings.model, settings.quant, settings.device, kv=settings.kv, use=use)


def _fitting(fit: CardFit, name: str) -> int:
    """Of how many layers the experts stay in main memory. Raises MemoryFitError."""
    if not fit.fits:
        raise MemoryFitError(f"{fit.refusal(name)}.")
    bound_card(fit.memory)
    return fit.placed.cpu_experts
