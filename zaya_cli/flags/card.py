"""What only a graphics card has a use for: how much of its memory, how many experts beside it, and recorded graphs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import typer

from zaya_cli.flags.options import MODEL_PANEL
from zaya_cli.models.card_fit import CardUse
from zaya_cli.terminal.output import write_note
from zaya_core.config.graphs import Graphs
from zaya_core.errors import UsageError

_AUTO = "auto"


@dataclass(frozen=True)
class CardFlags:
    """`--gpu-memory`, `--cpu-experts` and `--graphs`, as given."""

    gpu_memory: Annotated[
        float | None,
        typer.Option(
            "--gpu-memory", metavar="GB", envvar="ZAYA_GPU_MEMORY", rich_help_panel=MODEL_PANEL,
            help="Use at most so many GB of the card's memory, such as 7.5.", show_default="what is free",
        ),
    ] = None  # fmt: skip
    cpu_experts: Annotated[
        str,
        typer.Option(
            "--cpu-experts", metavar="N/auto", envvar="ZAYA_CPU_EXPERTS", rich_help_panel=MODEL_PANEL,
            help="Leave the experts of N layers in main memory, for the CPU; auto: as few as a small card needs.",
        ),
    ] = "0"  # fmt: skip
    graphs: Annotated[
        Graphs,
        typer.Option(
            "--graphs", envvar="ZAYA_GRAPHS", rich_help_panel=MODEL_PANEL,
            help="Replay a token's kernels on the card as a recorded graph; auto: where that was checked, not on ROCm.",
        ),
    ] = "auto"  # fmt: skip

    def use(self, dtype: str = "auto", rows: int | None = None) -> CardUse:
        """What is asked for. Raises UsageError."""
        if self.gpu_memory is not None and not 0 < self.gpu_memory * 1e9 < math.inf:
            raise UsageError(f"--gpu-memory is {self.gpu_memory:g}; it must be a number of GB above 0, such as 7.5.")
        most = None if self.gpu_memory is None else int(self.gpu_memory * 1e9)
        return CardUse(most, self._layers(), dtype, rows)

    def _layers(self) -> int | None:
        if self.cpu_experts == _AUTO:
            return None
        if not (self.cpu_experts.isascii() and self.cpu_experts.isdecimal() and len(self.cpu_experts) < 10):
            raise UsageError(
                f"--cpu-experts is {self.cpu_experts!r}; it must be {_AUTO}, or a number of layers from 0 up."
            )
        return int(self.cpu_experts)

    @property
    def are_given(self) -> bool:
        """Whether a person has said how a card is to be used."""
        return self.gpu_memory is not None or self.cpu_experts != "0"

    def expect_layers(self, layers: int) -> None:
        """Raises UsageError for the experts of more layers than a model has."""
        if (wanted := self._layers()) is not None and wanted > layers:
            raise UsageError(f"--cpu-experts {wanted} is too many: this model has {layers} layers.")

    def say_unused(self) -> None:
        """What was asked for has no meaning where the CPU computes."""
        flags = [] if self.gpu_memory is None else ["--gpu-memory"]
        flags += [] if self.cpu_experts == "0" else ["--cpu-experts"]
        flags += [] if self.graphs == "auto" else ["--graphs"]
        if flags:
            do = "does" if len(flags) == 1 else "do"
            named = " and ".join([*([", ".join(flags[:-1])] if flags[:-1] else []), flags[-1]])
            write_note(f"zaya: {named} {do} nothing here: the CPU computes, and no card is used.")
