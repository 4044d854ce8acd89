"""Which model answers and how it is loaded: settings and their flags, the same for every command that answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from zaya_cli.flags import options
from zaya_cli.flags.card import CardFlags
from zaya_core.config.weight_formats import ExpertFormat
from zaya_core.errors import UsageError

_PANEL = options.MODEL_PANEL


@dataclass(frozen=True)
class RuntimeSettings:
    """What decides how a model is loaded."""

    model: options.Model = None
    quant: Annotated[
        ExpertFormat | None,
        typer.Option(
            "--quant", envvar="ZAYA_QUANT", help="Use the folder that `zaya quantize` made of the model.",
            rich_help_panel=_PANEL, show_default="the model as it is",
        ),
    ] = None  # fmt: skip
    device: options.Device = "auto"
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype", envvar="ZAYA_DTYPE", help="auto (as stored), bfloat16 or float32.", rich_help_panel=_PANEL
        ),
    ] = "auto"
    kv: options.KV = "auto"
    threads: options.Threads = None
    context: Annotated[
        int | None,
        typer.Option(
            "--ctx", "-c", envvar="ZAYA_CTX", help="Longest conversation in tokens.", rich_help_panel=_PANEL,
            show_default="the model's",
        ),
    ] = None  # fmt: skip
    card: CardFlags = field(default_factory=CardFlags)
    force: options.Force = False

    def expect_context(self, longest: int | None = None) -> None:
        """Raises UsageError for a context that is too short, or longer than the model's `longest`."""
        if self.context is None:
            return
        if self.context < 2:
            raise UsageError(f"--ctx is {self.context}; it must be 2 or more.")
        if longest is not None and self.context > longest:
            raise UsageError(f"--ctx {self.context} is too large: this model supports 2 to {longest:,} tokens.")
