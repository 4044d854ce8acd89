"""The settings of `zaya chat`, and their flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import typer

from zaya_cli.flags import options
from zaya_cli.flags.generation import GenerationSettings
from zaya_cli.flags.groups import Without
from zaya_cli.flags.runtime import RuntimeSettings


@dataclass(frozen=True)
class ChatSettings:
    """All that `zaya chat` was asked for. keeps_history: whether anything is written without being asked for."""

    system: options.System = None
    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    generation: Annotated[GenerationSettings, Without("stop")] = field(default_factory=GenerationSettings)
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last conversation.")] = False
    keeps_history: Annotated[
        bool,
        typer.Option(
            "--history/--no-history", envvar="ZAYA_HISTORY",
            help="Remember what is typed, and keep the conversation.",
        ),
    ] = True  # fmt: skip
    stats: options.ShowStats = False
    color: options.Color = "auto"
