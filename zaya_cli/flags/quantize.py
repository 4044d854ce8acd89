"""The settings of `zaya quantize`, and their flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from zaya_cli.flags import options


@dataclass(frozen=True)
class QuantizeSettings:
    """All that `zaya quantize` was asked for. calibrate: a file, "none", or None for the built-in text."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", envvar="ZAYA_MODEL", help="Model folder or repository to quantize.",
            rich_help_panel=options.MODEL_PANEL, show_default="Zyphra/ZAYA1-8B",
        ),
    ] = None  # fmt: skip
    format: Annotated[
        Literal["int4", "int8", "nf4"],
        typer.Option("--format", help="What the experts become: 4.25, 8 or 4.5 bits a weight."),
    ] = "int4"
    dense: Annotated[
        options.DenseKind,
        typer.Option("--dense", help="What attention, embedding and head become; bf16 leaves them as they are."),
    ] = "int8"
    calibrate: options.Calibrate = None
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder to make.", show_default="in $XDG_DATA_HOME/zaya/models, where --quant looks"
        ),
    ] = None
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare sampled matrices with the source; of a folder that exists, only that."),
    ] = False
    threads: options.Threads = None
    quiet: options.Quiet = False
