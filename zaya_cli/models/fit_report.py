"""Whether a model fits into the memory of this machine, in words: as it is, in each format, and what would help."""

from __future__ import annotations

from dataclasses import dataclass

from zaya_cli.machine.hardware import Memory
from zaya_cli.models.card_fit import ALL_OF_IT, CardFit, CardUse, card_in_words
from zaya_cli.sizes import gigabytes
from zaya_core.config.kv_format import KVFormat
from zaya_core.config.model_config import ModelConfig
from zaya_core.config.weight_formats import DenseFormat
from zaya_core.machine.memory_fit import (
    SMALLER,
    USUAL_CONTEXT,
    MemoryNeed,
    Verdict,
    longest_context,
    memory_need,
    packed_as,
    weight_bytes,
)

_STORED = "as stored"


@dataclass(frozen=True)
class FormatFit:
    """One format of a model against the memory of a machine."""

    format: str
    need: MemoryNeed
    verdict: Verdict
    context: int


def judged(
    config: ModelConfig,
    stored_bytes: int,
    memory: Memory,
    context: int = USUAL_CONTEXT,
    kv: KVFormat = "auto",
    use: CardUse = ALL_OF_IT,
) -> tuple[MemoryNeed, Verdict]:
    """What a model needs where the memory is, and whether it fits; on a card it is never tight."""
    if memory.card is None:
        need = memory_need(config, stored_bytes, context, kv)
        return need, need.verdict(memory.total, memory.free)
    fit = CardFit.of(config, stored_bytes, memory, context, kv, use)
    return fit.need, "fits" if fit.fits else "does not fit"


def longest_in(config: ModelConfig, stored_bytes: int, memory: Memory, kv: KVFormat = "auto") -> int:
    """Tokens of the longest conversation that fits where the memory is, in steps of 1,024; 0 for none."""
    if memory.card is None:
        return longest_context(config, stored_bytes, memory.total, kv)
    return CardFit.of(config, stored_bytes, memory, kv=kv).longest_context


def fits_of(
    config: ModelConfig | None,
    stored_bytes: int,
    memory: Memory,
    context: int = USUAL_CONTEXT,
    kv: KVFormat = "auto",
) -> list[FormatFit]:
    """As stored, then each smaller format that the weights could be quantized to. Without a config, weights alone."""
    if config is None:
        need = MemoryNeed(stored_bytes, 0)
        return [FormatFit(_STORED, need, need.verdict(memory.usable, min(memory.free, memory.usable)), 0)]
    context = min(context, config.max_position_embeddings)
    sizes: dict[str, tuple[ModelConfig, int]] = {_STORED: (config, stored_bytes)}
    sizes |= {
        format: (packed_as(config, format), nbytes)
        for format in SMALLER
        if (nbytes := weight_bytes(config, format)) < stored_bytes
    }
    return [
        FormatFit(format, *judged(packed, nbytes, memory, context, kv), context)
        for format, (packed, nbytes) in sizes.items()
    ]


def fit_of(config: ModelConfig, format: DenseFormat, dense: DenseFormat, memory: Memory) -> FormatFit:
    """Quantized like this."""
    context = min(USUAL_CONTEXT, config.max_position_embeddings)
    nbytes = weight_bytes(config, format, dense)
    return FormatFit(format, *judged(packed_as(config, format, dense), nbytes, memory, context), context)


def table_of(fits: list[FormatFit], memory: Memory) -> list[str]:
    """The machine, then one line for each format."""
    context = f", with {fits[0].context:,} tokens of context" if fits[0].context else ""
    lines = [f"memory   {gigabytes(memory.total)}, {gigabytes(memory.free)} free ({memory.place}); needed{context}:"]
    for fit in fits:
        note = " (other programs must give some back)" if fit.verdict == "tight" else ""
        lines.append(f"         {fit.format:<10}{gigabytes(fit.need.total):>9}   {fit.verdict}{note}")
    return lines


def advice(fits: list[FormatFit], memory: Memory) -> str:
    """What is needed and what is there, for a sentence."""
    least = min(fits, key=lambda fit: fit.need.total)
    there = f"there are {gigabytes(memory.total)}"
    if memory.card is not None:
        there = f"{gigabytes(memory.usable)} can be used of {card_in_words(memory)}"
    return (
        f"{gigabytes(least.need.total)} are needed at least ({least.format}, {least.context:,} tokens of context), and "
        f"{there}"
    )


def smallest_change(config: ModelConfig, stored_bytes: int, memory: Memory, kv: KVFormat = "auto") -> str | None:
    """What would make a model fit that does not: a shorter context, else a smaller format; None if nothing does."""
    tokens = longest_context(config, stored_bytes, memory.total, kv)
    if tokens >= 1024:
        return f"--ctx {tokens}"
    for fit in fits_of(config, stored_bytes, memory, kv=kv)[1:]:
        if fit.verdict != "does not fit":
            return f"the {fit.format} format ({gigabytes(fit.need.total)}; `zaya quantize --format {fit.format}`)"
    return None
