"""Flags that several commands have, each defined once: name, environment variable, help."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from zaya_cli.completion import complete_model
from zaya_cli.terminal import output
from zaya_core.config.kv_format import KVFormat

InfoKind = Literal["text", "json"]

MODEL_PANEL, OUTPUT_PANEL = "Model", "Output"


Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", envvar="ZAYA_MODEL",
        help="A name that `zaya models` lists, a repository (OWNER/NAME or OWNER/NAME@REVISION), or a folder.",
        rich_help_panel=MODEL_PANEL, show_default="the best one here that fits", autocompletion=complete_model,
    ),
]  # fmt: skip
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="ZAYA_DEVICE",
        help="auto, cpu, cuda (the card that suits best) or cuda:N.",
        rich_help_panel=MODEL_PANEL,
    ),
]
KV = Annotated[
    KVFormat,
    typer.Option(
        "--kv", envvar="ZAYA_KV", rich_help_panel=MODEL_PANEL,
        help="Keys and values: auto (in the model's dtype), or int8, which halves their memory and their traffic.",
    ),
]  # fmt: skip
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", envvar="ZAYA_THREADS", help="CPU threads.", rich_help_panel=MODEL_PANEL,
        show_default="physical cores that this process may use",
    ),
]  # fmt: skip
Calibrate = Annotated[
    str | None,
    typer.Option(
        "--calibrate", metavar="FILE", show_default="a built-in text",
        help="Text (or .jsonl of question, thinking, answer) on which int4 is fitted; none does without.",
    ),
]  # fmt: skip
Force = Annotated[
    bool, typer.Option("--force", help="Go on where a model does not fit into memory.", rich_help_panel=MODEL_PANEL)
]
System = Annotated[
    str | None, typer.Option("--system", "-s", envvar="ZAYA_SYSTEM", help="System message in front of the prompt.")
]
InfoFormat = Annotated[InfoKind, typer.Option("--format", help="text or json.", rich_help_panel=OUTPUT_PANEL)]
ShowStats = Annotated[
    bool, typer.Option("--stats", help="Print tokens, speed, memory and seed to stderr.", rich_help_panel=OUTPUT_PANEL)
]
Color = Annotated[
    output.Color,
    typer.Option("--color", envvar="ZAYA_COLOR", help="Colour on stderr.", rich_help_panel=OUTPUT_PANEL),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.", rich_help_panel=OUTPUT_PANEL)]
