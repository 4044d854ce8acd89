"""Which model a command takes: the one that was named, or the best one on this machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from zaya_cli.machine.hardware import Memory, memory_of, system_memory
from zaya_cli.models.card_fit import ALL_OF_IT, CardFit, CardUse, card_in_words
from zaya_cli.models.folder import DEFAULT_REPO, find_model_folder
from zaya_cli.models.found import FoundModel
from zaya_cli.models.inventory import PresentModel, present_models
from zaya_cli.models.quantized_folder import find_quantized_folder
from zaya_cli.sizes import gigabytes
from zaya_core.config.kv_format import KVFormat
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.weight_formats import FLOAT, LARGEST_FIRST
from zaya_core.errors import MemoryFitError, ModelNotFoundError
from zaya_core.machine.memory_fit import USUAL_CONTEXT, Verdict

_CLOSENESS = (FLOAT, "f32", *LARGEST_FIRST)  # to the weights as published; the closest first


@dataclass(frozen=True)
class Choice:
    """The model to use when none was named, and why, in words."""

    model: PresentModel
    verdict: Verdict
    reason: str


def find_model(
    name: str | None,
    quant: str | None = None,
    device: str = "auto",
    context: int | None = None,
    kv: KVFormat = "auto",
    use: CardUse = ALL_OF_IT,
) -> FoundModel:
    """The model of --model and --quant; without either the best present one that fits into the device's memory.

    Raises the errors of `find_model_folder`, `find_quantized_folder` and `choose_for`.
    """
    if quant is not None:
        return find_quantized_folder(name, quant)
    if name is not None:
        return FoundModel(name, find_model_folder(name))
    choice = choose_for(device, present_models(), context, kv, use)
    return FoundModel(choice.model.name, choice.model.folder, choice.reason)


def choose_for(
    device: str,
    models: list[PresentModel],
    context: int | None = None,
    kv: KVFormat = "auto",
    use: CardUse = ALL_OF_IT,
) -> Choice:
    """As `choose`, in the memory of a device; for "auto" in main memory where nothing fits on a card that is taken as
    it is, since the CPU computes then.

    Raises as `choose`.
    """
    memory = memory_of(device).at_most(use.gpu_memory)
    try:
        return choose(models, memory, context, kv, use)
    except MemoryFitError:
        if device == "auto" and memory.card is not None and use.takes_card_as_it_is:
            with suppress(MemoryFitError):
                choice = choose(models, system_memory(), context, kv)
                reason = f"{choice.reason}; on the CPU, since no model here fits on {card_in_words(memory)}"
                return replace(choice, reason=reason)
        raise


def choose(
    models: list[PresentModel],
    memory: Memory,
    context: int | None = None,
    kv: KVFormat = "auto",
    use: CardUse = ALL_OF_IT,
) -> Choice:
    """The one closest to the published weights that fits; a ZAYA1-8B before any other; never a bundled one, nor
    what was made of it. On a card the fewer experts it takes out of it, the better.

    Raises ModelNotFoundError with what to type if there is none, MemoryFitError if none fits.
    """
    toys = {_sizes(model.config) for model in models if model.place == "bundled" and model.config is not None}
    usable = [one for one in models if one.problem is None and one.config and _sizes(one.config) not in toys]
    if not usable:
        raise ModelNotFoundError(_nothing_present([model for model in models if model.problem is not None]))
    tokens = context or USUAL_CONTEXT
    if memory.card is not None:
        return _choose_for_card(usable, memory, tokens, kv, use)
    return _choose_for_host(usable, memory, tokens, kv)


def _choose_for_host(usable: list[PresentModel], memory: Memory, tokens: int, kv: KVFormat) -> Choice:
    needs = {model.name: model.need(tokens, kv) for model in usable}
    verdicts = {name: need.verdict(memory.total, memory.free) for name, need in needs.items()}
    of_all = f" of {gigabytes(memory.total)}"

    def needed(model: PresentModel) -> str:
        return gigabytes(needs[model.name].total)

    def told(model: PresentModel) -> str:
        free = "" if verdicts[model.name] == "does not fit" else f", {gigabytes(memory.free)} free"
        return f"{needed(model)}{of_all}{free}"

    for wanted in ("fits", "tight"):
        fitting = [model for model in usable if verdicts[model.name] == wanted]
        if fitting:
            best = min(fitting, key=_preference)
            return Choice(best, verdicts[best.name], _reason(best, usable, needed(best), of_all, told))
    least = min(usable, key=lambda model: model.weight_bytes)
    raise MemoryFitError(
        f"No model on this machine fits into its memory ({gigabytes(memory.total)}): {least.name}, the smallest, needs "
        f"{needed(least)}; pull or quantize a smaller format, or name a model and add --force."
    )


def _choose_for_card(usable: list[PresentModel], memory: Memory, tokens: int, kv: KVFormat, use: CardUse) -> Choice:
    fits = {model.name: _fit(model, memory, tokens, kv, use) for model in usable}
    fitting = [model for model in usable if fits[model.name].fits]
    if not fitting:
        least = min(usable, key=lambda model: fits[model.name].need.total)
        raise MemoryFitError(
            f"No model on this machine fits: {fits[least.name].refusal(least.name)}; pull a smaller format, or name a "
            "model and add --force."
        )
    best = min(fitting, key=lambda model: (fits[model.name].placed.cpu_experts, _preference(model)))

    def told(model: PresentModel) -> str:
        fit = fits[model.name]
        return fit.in_words if fit.fits else fit.shortage

    return Choice(best, "fits", _reason(best, usable, fits[best.name].in_words, "", told))


def _fit(model: PresentModel, memory: Memory, tokens: int, kv: KVFormat, use: CardUse) -> CardFit:
    assert model.config is not None  # it has no problem
    return CardFit.of(model.config, model.weight_bytes, memory, tokens, kv, use)


def _sizes(config: ModelConfig) -> tuple[int, ...]:
    return config.vocab_size, config.hidden_size, config.num_hidden_layers, config.moe_intermediate_size


def _preference(model: PresentModel) -> tuple[bool, int, int]:
    kind = model.format.split()[0]
    closeness = _CLOSENESS.index(kind) if kind in _CLOSENESS else len(_CLOSENESS)
    return (not model.is_default_family, closeness, -model.weight_bytes)


def _reason(
    best: PresentModel, usable: list[PresentModel], need: str, of_all: str, told: Callable[[PresentModel], str]
) -> str:
    """Why the best one: what it needs, of what there is, and what is told of one that is closer to the published."""
    if len(usable) == 1:
        return f"the only model here; needs {need}"
    better = [model for model in usable if _preference(model) < _preference(best)]
    if not better:
        return f"the closest to the published weights; needs {need}{of_all}"
    closest = min(better, key=_preference)
    return f"needs {need}; {closest.name} needs {told(closest)}"


def _nothing_present(broken: list[PresentModel]) -> str:
    for model in broken:
        if model.name == DEFAULT_REPO:
            return f"{model.name} is on this machine but cannot be used: {model.problem}"
    return (
        f"There is no model on this machine yet: type `zaya pull` ({DEFAULT_REPO}, 17.7 GB), give --model FOLDER, or "
        "try the small bundled one with --model demo."
    )
