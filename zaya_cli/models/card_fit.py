"""A model against the memory of a graphics card: what of it is placed there, and what would fit where it does not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from zaya_cli.machine.hardware import Memory, system_memory
from zaya_cli.sizes import gigabytes
from zaya_core.config.kv_format import KVFormat
from zaya_core.config.model_config import ModelConfig
from zaya_core.errors import MemoryFitError
from zaya_core.machine.card_fit import OnCard, least_grant
from zaya_core.machine.memory_fit import (
    SMALLER,
    USUAL_CONTEXT,
    MemoryNeed,
    expert_bytes,
    loaded_bytes,
    memory_need,
    packed_as,
)


@dataclass(frozen=True)
class CardUse:
    """What was asked for of a card. gpu_memory: most bytes to use of it, None for all that are free; cpu_experts: of so
    many layers the experts stay in main memory, None for as few as it takes; dtype: as `--dtype`; rows: most that run
    at once, None for the Engine's own."""

    gpu_memory: int | None = None
    cpu_experts: int | None = 0
    dtype: str = "auto"
    rows: int | None = None

    @property
    def takes_card_as_it_is(self) -> bool:
        """Whether nothing was asked for but what is computed."""
        return self.gpu_memory is None and self.cpu_experts == 0


ALL_OF_IT = CardUse()


@dataclass(frozen=True)
class CardFit:
    """A model, of so many bytes in its files, as it would lie on the card that `memory` is of. made_by: what is typed
    for it in another format."""

    placed: OnCard
    memory: Memory
    stored_bytes: int
    made_by: str = "zaya quantize --format"

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
        """With fewer rows than are asked for, and as few experts in main memory as it takes where that is asked for.

        It may not fit all the same.
        """
        value = _bytes_per_value(memory, use.dtype, _stored_value(config, stored_bytes))
        layers, usual_rows = config.num_hidden_layers, _engine_rows()
        placed = OnCard(config, context, use.rows or usual_rows, kv, value, min(use.cpu_experts or 0, layers))
        placed = placed.with_fewer_rows(memory.usable, usual_rows)
        if use.cpu_experts is None:
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
        changes = _joined(self._changes())
        help = f"what would fit is {changes}" if changes else "nothing that could be changed would make it fit"
        return f"{name} needs {self.shortage}: {help}"

    @property
    def shortage(self) -> str:
        """What is needed and what there is: of the card, or of main memory where only that is too small."""
        memory = self.memory
        if self.placed.fits(memory.usable):
            need, total = gigabytes(self._host_need.total), gigabytes(system_memory().total)
            return f"{need} of main memory for {self._experts_beside}, and there are {total}"
        granted = f" and --gpu-memory grants {gigabytes(memory.most)}" if memory.most is not None else ""
        return (
            f"{self.in_words}, and {gigabytes(memory.usable)} can be used of {card_in_words(memory)}, where "
            f"{gigabytes(memory.free)} of {gigabytes(memory.total)} are free{granted}"
        )

    @property
    def in_words(self) -> str:
        """What is needed of the card."""
        beside = f" with {self._experts_beside} in main memory" if self.placed.cpu_experts else ""
        return f"{gigabytes(self.need.total)} on the card{beside}"

    @property
    def _experts_beside(self) -> str:
        return f"the experts of {self.placed.cpu_experts} of {self.placed.config.num_hidden_layers} layers"

    def _changes(self) -> list[str]:
        """Each would make it fit."""
        host, placed = system_memory(), self.placed
        changes = [*self._single_changes()] or [*islice(self._formats_with_experts_beside(), 1)]
        on_cpu = memory_need(placed.config, self.stored_bytes, placed.context, placed.kv)
        can_use_cpu = on_cpu.verdict(host.total, host.free) != "does not fit"
        return [*changes, *(["--device cpu"] if can_use_cpu else [])]

    def _single_changes(self) -> Iterator[str]:
        if self.memory.most is not None:
            tenths = math.ceil(least_grant(self.need.total) / 1e8)  # of a GB
            if replace(self, memory=self.memory.at_most(tenths * 10**8)).fits:
                yield f"--gpu-memory {tenths / 10:g}"
        if 1024 <= self.longest_context < self.placed.context and self._has_host_room:
            yield f"--ctx {self.longest_context}"
        fewest = self._with_fewest_cpu_experts()
        if fewest is not None and fewest != self and fewest.fits:
            yield f"--cpu-experts {fewest.placed.cpu_experts}"
        yield from islice((_in_words(name, fit) for name, fit in self._smaller_formats() if fit.fits), 1)

    def _formats_with_experts_beside(self) -> Iterator[str]:
        for name, fit in self._smaller_formats():
            fewest = fit._with_fewest_cpu_experts()
            if fewest is not None and fewest.fits:
                yield f"{_in_words(name, fewest)} with --cpu-experts {fewest.placed.cpu_experts}"

    def _with_fewest_cpu_experts(self) -> CardFit | None:
        placed = self.placed.with_fewest_cpu_experts(self.memory.usable)
        return None if placed is None else replace(self, placed=placed)

    def _smaller_formats(self) -> Iterator[tuple[str, CardFit]]:
        """The largest first."""
        config, value = self.placed.config, self.placed.bytes_per_value
        for format in SMALLER:
            if expert_bytes(smaller := packed_as(config, format)) < expert_bytes(config, value):
                yield format, replace(self, placed=replace(self.placed, config=smaller))

    @property
    def _has_host_room(self) -> bool:
        return not self.placed.cpu_experts or self._host_need.total <= system_memory().total

    @cached_property
    def _host_need(self) -> MemoryNeed:
        """Of the experts that stay in main memory, as they are stored."""
        config, value = self.placed.config, _stored_value(self.placed.config, self.stored_bytes)
        return MemoryNeed(self.placed.cpu_experts * expert_bytes(config, value), 0)


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


def _stored_value(config: ModelConfig, stored_bytes: int) -> int:
    """Bytes of a number in the files, whatever their config.json says; for packed ones, of a number computed with."""
    if config.quantization is not None:
        return 4 if config.quantization.dtype == "float32" else 2
    return 4 if 2 * stored_bytes > 3 * loaded_bytes(config) else 2


def _bytes_per_value(memory: Memory, dtype: str, stored: int) -> int:
    """Of what the card computes in: 4 where it has no bfloat16, too. Imports torch, as whoever found the card has."""
    import torch

    from zaya_core.kernels.resolve import in_float32
    from zaya_core.machine.device import choose_placement

    if in_float32():
        return torch.float32.itemsize
    as_stored = torch.float32 if stored == 4 else torch.bfloat16
    return choose_placement(f"cuda:{memory.card}", dtype, as_stored).dtype.itemsize


def _in_words(format: str, fit: CardFit) -> str:
    return f"the {format} format ({gigabytes(fit.need.total)}; `{fit.made_by} {format}`)"


def _joined(words: list[str]) -> str:
    *others, last = words or [""]
    return f"{', '.join(others)} or {last}" if others else last
