"""The settings of `zaya quantize`, and their flags."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from zaya_cli.flags import options
from zaya_core.config.weight_formats import (
    DEFAULT_DENSE,
    DEFAULT_EXPERTS,
    EXPERT_FORMATS,
    DenseFormat,
    ExpertFormat,
    bits_of,
)


def _bits_of_each() -> str:
    *others, last = [f"{bits_of(name):g}" for name in EXPERT_FORMATS]
    return f"{', '.join(others)} or {last}"


@dataclass(frozen=True)
class QuantizeCommand:
    """All that `zaya quantize` was asked for. calibrate: a file, "none", or None for the built-in text."""

    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", envvar="ZAYA_MODEL", help="Model folder or repository to quantize.",
            rich_help_panel=options.MODEL_PANEL, show_default="Zyphra/ZAYA1-8B",
        ),
    ] = None  # fmt: skip
    format: Annotated[
        ExpertFormat,
        typer.Option("--format", help=f"What the experts become: {_bits_of_each()} bits a weight."),
    ] = DEFAULT_EXPERTS
    dense: Annotated[
        DenseFormat,
        typer.Option("--dense", help="What attention, embedding and head become; bf16 leaves them as they are."),
    ] = DEFAULT_DENSE
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
