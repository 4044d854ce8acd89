"""A model against the memory of a graphics card: what of it is placed there, and what would fit where it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from zaya_cli.machine.hardware import Memory, system_memory
from zaya_cli.sizes import gigabytes
from zaya_core.config.kv_format import KVFormat
from zaya_core.config.model_config import ModelConfig
from zaya_core.errors import MemoryFitError
from zaya_core.machine.card_fit import OnCard
from zaya_core.machine.memory_fit import SMALLER, USUAL_CONTEXT, MemoryNeed, loaded_bytes, memory_need, packed_as


@dataclass(frozen=True)
class CardUse:
    """What was asked for of a card. gpu_memory: most bytes to use of it, None for all that are free; cpu_experts: of so
    many layers the experts stay in main memory, None for as few as it takes; dtype: as `--dtype`; rows: most that run
    at once, None for the Engine's own."""

    gpu_memory: int | None = None
    cpu_experts: int | None = 0
    dtype: str = "auto"
    rows: int | None = None


ALL_OF_IT = CardUse()


@dataclass(frozen=True)
class CardFit:
    """A model, of so many bytes in its files, as it would lie on the card that `memory` is of."""

    placed: OnCard
    memory: Memory
    stored_bytes: int

    @classmethod
    def of(
        cls,
        config: ModelConfig,
        stored_bytes: int,
        memory: Memory,
        context: int = USUAL_CONTEXT,
        kv: KVFormat = "auto",
        use: CardUse = ALL_OF_IT,
    ) -> CardFit:
        """With as few experts in main memory as it takes, where that is asked for; it may not fit all the same."""
        rows, value = use.rows or _engine_rows(), _bytes_per_value(config, stored_bytes, memory, use.dtype)
        placed, layers = OnCard(config, context, rows, kv, value), config.num_hidden_layers
        if use.cpu_experts is not None:
            placed = replace(placed, cpu_experts=min(use.cpu_experts, layers))
        else:
            placed = placed.with_fewest_cpu_experts(memory.usable) or replace(placed, cpu_experts=layers)
        return cls(placed, memory, stored_bytes)

    @property
    def need(self) -> MemoryNeed:
        """On the card."""
        return self.placed.need

    @property
    def fits(self) -> bool:
        """Whether there is room on the card, and in main memory for the experts that stay there."""
        return self.placed.fits(self.memory.usable) and self._has_host_room

    @property
    def longest_context(self) -> int:
        """Tokens of the longest conversation that would fit, in steps of 1,024; 0 for none."""
        return self.placed.longest_context(self.memory.usable)

    def pool_blocks(self, longest: int) -> int:
        """Blocks of keys and values to allocate for rows of at most `longest` tokens."""
        return self.placed.pool_blocks(self.memory.usable, longest)

    def refusal(self, name: str) -> str:
        """What a model that does not fit needs, what there is, and what would fit: a sentence without its end."""
        changes = _joined([*self._changes()])
        help = f"what would fit is {changes}" if changes else "nothing that could be changed would make it fit"
        return f"{name} needs {self._shortage()}: {help}"

    def _shortage(self) -> str:
        """What is needed and what there is: of the card, or of main memory where only that is too small."""
        placed, memory = self.placed, self.memory
        layers = f"the experts of {placed.cpu_experts} layers"
        if placed.fits(memory.usable):
            need, total = gigabytes(self._host_need.total), gigabytes(system_memory().total)
            return f"{need} of main memory for {layers}, and there are {total}"
        kept = f" with {layers} in main memory" if placed.cpu_experts else ""
        granted = f" and --gpu-memory grants {gigabytes(memory.most)}" if memory.most is not None else ""
        return (
            f"{gigabytes(self.need.total)} on the card{kept}, and {gigabytes(memory.usable)} can be used of "
            f"{card_in_words(memory)}, where {gigabytes(memory.free)} of {gigabytes(memory.total)} are free{granted}"
        )

    def _changes(self) -> Iterator[str]:
        """Each by itself would make it fit."""
        placed = self.placed
        if 1024 <= self.longest_context < placed.context and self._has_host_room:
            yield f"--ctx {self.longest_context}"
        fewest = placed.with_fewest_cpu_experts(self.memory.usable)
        if fewest is not None and fewest != placed and replace(self, placed=fewest).fits:
            yield f"--cpu-experts {fewest.cpu_experts}"
        yield from self._smaller_format()
        host = system_memory()
        on_cpu = memory_need(placed.config, self.stored_bytes, placed.context, placed.kv)
        if on_cpu.verdict(host.total, host.free) != "does not fit":
            yield "--device cpu"

    def _smaller_format(self) -> Iterator[str]:
        """The largest one that fits, if any does."""
        for format in SMALLER:
            smaller = replace(self, placed=replace(self.placed, config=packed_as(self.placed.config, format)))
            if smaller.need.weights < self.need.weights and smaller.fits:
                yield f"the {format} format ({gigabytes(smaller.need.total)}; `zaya quantize --format {format}`)"
                return

    @property
    def _has_host_room(self) -> bool:
        return not self.placed.cpu_experts or self._host_need.total <= system_memory().total

    @cached_property
    def _host_need(self) -> MemoryNeed:
        return MemoryNeed(self.placed.host_bytes, 0)


def card_in_words(memory: Memory) -> str:
    """Which card the memory is of."""
    return f"{memory.place} (cuda:{memory.card})"


def bound_card(memory: Memory) -> None:
    """Let PyTorch refuse what is more than was granted of a card."""
    if memory.card is not None and memory.most is not None:
        import torch

        torch.cuda.set_per_process_memory_fraction(min(1.0, memory.most / memory.total), memory.card)


@contextmanager
def room_on_card(name: str, memory: Memory) -> Iterator[None]:
    """While something is placed on a card: raises MemoryFitError where it has less room than it said."""
    try:
        yield
    except RuntimeError as error:
        if memory.card is None or not _is_full(error):
            raise
        raise MemoryFitError(
            f"{name} found less room than expected on {card_in_words(memory)}: close what else uses the card, or give "
            "--ctx, --cpu-experts auto or --device cpu."
        ) from error


def _is_full(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError)


def _engine_rows() -> int:
    from zaya_core.engine.engine import MAX_ROWS

    return MAX_ROWS


def _bytes_per_value(config: ModelConfig, stored_bytes: int, memory: Memory, dtype: str) -> int:
    """Of what the card computes in: 4 where it has no bfloat16, too. Imports torch, as whoever found the card has."""
    import torch

    from zaya_core.machine.device import choose_placement

    if config.quantization is not None:
        is_float32 = config.quantization.dtype == "float32"
    else:  # as the files are, whatever their config.json says
        is_float32 = 2 * stored_bytes > 3 * loaded_bytes(config)
    stored = torch.float32 if is_float32 else torch.bfloat16
    return choose_placement(f"cuda:{memory.card}", dtype, stored).dtype.itemsize


def _joined(words: list[str]) -> str:
    *others, last = words or [""]
    return f"{', '.join(others)} or {last}" if others else last
