"""The settings of `zaya bench`, and their flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import typer

from zaya_cli.flags import options
from zaya_cli.flags.card import CardFlags
from zaya_core.config.weight_formats import DEFAULT_DENSE, AnyFormat, DenseFormat


@dataclass(frozen=True)
class BenchSettings:
    """What to measure. Lists are numbers with commas, as typed."""

    prompts: Annotated[str, typer.Option("--prompt-tokens", "-p", help="Prompt lengths, with commas; 0 is none.")] = (
        "512"
    )
    tokens: Annotated[str, typer.Option("--tokens", "-n", help="Tokens to decode, with commas.")] = "128"
    depths: Annotated[str, typer.Option("--depth", "-d", help="Tokens that are there already.")] = "0"
    batches: Annotated[str, typer.Option("--batch", "-b", help="Rows at once.")] = "1"
    repeats: Annotated[int, typer.Option("--repeats", "-r", help="Times to measure each case.")] = 5
    model: options.Model = None
    dummy: Annotated[bool, typer.Option("--dummy", help="Random weights of ZAYA1-8B's sizes; no download.")] = False
    quant: Annotated[
        AnyFormat | None,
        typer.Option(
            "--quant",
            help="The folder that `zaya quantize` made; with --dummy the format of the experts.",
            show_default="the model as it is; int4 with --dummy",
        ),
    ] = None
    dense: Annotated[
        DenseFormat | None,
        typer.Option("--dense", help="With --dummy: attention, embedding and head.", show_default=DEFAULT_DENSE),
    ] = None
    device: options.Device = "auto"
    kv: options.KV = "auto"
    threads: options.Threads = None
    card: CardFlags = field(default_factory=CardFlags)
    format: Annotated[Literal["md", "csv", "json", "jsonl"], typer.Option("--format", help="Of the table.")] = "md"
