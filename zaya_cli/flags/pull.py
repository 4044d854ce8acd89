"""The settings of `zaya pull`, and their flags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from zaya_cli.flags import options
from zaya_cli.flags.quantize import QuantizeCommand
from zaya_core.config.weight_formats import DEFAULT_DENSE, FAST_FORMATS, DenseFormat, FastFormat
from zaya_core.errors import UsageError


@dataclass(frozen=True)
class PullSettings:
    """All that `zaya pull` was asked for."""

    repo: Annotated[
        str | None,
        typer.Argument(metavar="REPO", help="OWNER/NAME on the Hugging Face Hub.", show_default="Zyphra/ZAYA1-8B"),
    ] = None
    revision: Annotated[str, typer.Option("--revision", help="Branch, tag or commit.")] = "main"
    device: options.Device = "auto"
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is missing and whether it fits.")] = False
    quant: Annotated[
        FastFormat | None,
        typer.Option("--quant", help="Quantize what arrives: the format of the experts.", show_default="download only"),
    ] = None
    dense: Annotated[
        DenseFormat | None,
        typer.Option(
            "--dense", show_default=DEFAULT_DENSE,
            help="With --quant: the format of attention, embedding and head; bf16 leaves them as they are.",
        ),
    ] = None  # fmt: skip
    calibrate: options.Calibrate = None
    discards: Annotated[
        bool,
        typer.Option(
            "--discard-originals",
            help="With --quant: download outside the cache, and delete each downloaded file once it is quantized.",
        ),
    ] = False
    force: options.Force = False
    color: options.Color = "auto"
    quiet: options.Quiet = False

    @property
    def quantization(self) -> QuantizeCommand | None:
        """What --quant and the flags that belong to it ask for."""
        if self.quant is None:
            return None
        dense = self.dense or DEFAULT_DENSE
        return QuantizeCommand(self.repo, self.quant, dense, self.calibrate, quiet=self.quiet)

    def expect_consistent(self) -> None:
        """Raises UsageError for flags that say how to quantize, where nothing is."""
        asked = {
            "--dense": self.dense is not None,
            "--calibrate": self.calibrate is not None,
            "--discard-originals": self.discards,
        }
        for flag in (flag for flag, is_given in asked.items() if is_given and self.quant is None):
            choices = " or ".join(f"--quant {name}" for name in FAST_FORMATS)
            raise UsageError(f"{flag} says how to quantize: add {choices}, or leave it out.")
