"""Whether a model fits into the memory of this machine, in words: as it is, in each format, and what would help."""

from __future__ import annotations

from dataclasses import dataclass

from zaya_cli.machine.hardware import Memory
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
        return [FormatFit(_STORED, need, need.verdict(memory.total, memory.free), 0)]
    context = min(context, config.max_position_embeddings)
    sizes: dict[str, int] = {_STORED: stored_bytes}
    sizes |= {format: nbytes for format in SMALLER if (nbytes := weight_bytes(config, format)) < stored_bytes}
    fits = []
    for format, nbytes in sizes.items():
        need = memory_need(config, nbytes, context, kv)
        fits.append(FormatFit(format, need, need.verdict(memory.total, memory.free), context))
    return fits


def fit_of(config: ModelConfig, format: DenseFormat, dense: DenseFormat, memory: Memory) -> FormatFit:
    """Quantized like this."""
    context = min(USUAL_CONTEXT, config.max_position_embeddings)
    need = memory_need(config, weight_bytes(config, format, dense), context)
    return FormatFit(format, need, need.verdict(memory.total, memory.free), context)


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
    return (
        f"{gigabytes(least.need.total)} are needed at least ({least.format}, {least.context:,} tokens of context), and "
        f"there are {gigabytes(memory.total)}"
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
