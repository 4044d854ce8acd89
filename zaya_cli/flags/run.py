"""The settings of `zaya run`, and their flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from zaya_cli.flags import options
from zaya_cli.flags.generation import GenerationSettings
from zaya_cli.flags.rsa import RsaFlags
from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.terminal.output import Format


@dataclass(frozen=True)
class RunSettings:
    """All that `zaya run` was asked for."""

    files: Annotated[list[str] | None, typer.Argument(help="Text files, one prompt each. - is standard input.")] = None
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", help="Text to ask; put in front of files or piped text. - reads standard input."
        ),
    ] = None
    system: options.System = None
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    format: Annotated[
        Format,
        typer.Option(
            "--format", help="text, one json object at the end, or events as jsonl.",
            rich_help_panel=options.OUTPUT_PANEL,
        ),
    ] = "text"  # fmt: skip
    logprobs: Annotated[
        int | None,
        typer.Option(
            "--logprobs", min=0, max=20, help="With json or jsonl: log-probabilities, and so many alternatives.",
            rich_help_panel=options.OUTPUT_PANEL, show_default="none",
        ),
    ] = None  # fmt: skip
    stats: options.ShowStats = False
    color: options.Color = "auto"
    quiet: options.Quiet = False
    rsa: RsaFlags = field(default_factory=RsaFlags)
