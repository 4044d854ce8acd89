"""The settings of `zaya doctor`, and their flags."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from typing import Annotated

import typer

from zaya_cli.flags import options
from zaya_cli.flags.groups import flag_names
from zaya_cli.flags.runtime import RuntimeSettings
from zaya_core.errors import UsageError

_NAMING = ("model", "quant")  # a model; the other flags say how it is loaded
_OF_MACHINE = ("device",)  # mean something without a model, too


@dataclass(frozen=True)
class DoctorSettings:
    """What to look at: this machine, or one model on it."""

    runtime: RuntimeSettings = field(default_factory=RuntimeSettings)
    run_self_test: Annotated[
        bool, typer.Option("--self-test/--no-self-test", help="Run the bundled model, about 5 s; without --model.")
    ] = True
    format: options.InfoFormat = "text"

    def asks_for_model(self, given: Set[str]) -> bool:
        """Whether one was named on the command line; a variable's is meant for commands that need one.

        given: the parameters that are on it. Raises UsageError for flags of a model without one, and the reverse.
        """
        if given & {*_NAMING}:
            if "run_self_test" in given and self.run_self_test:
                raise UsageError("--self-test runs the bundled model; with --model that one is tested: leave one out.")
            return True
        idle = [name for name in flag_names(RuntimeSettings) if name in given - {*_OF_MACHINE}]
        if idle:
            flag = "--ctx" if idle[0] == "context" else f"--{idle[0].replace('_', '-')}"
            raise UsageError(f"{flag} says how a model is loaded: name one with --model, or leave it out.")
        return False
