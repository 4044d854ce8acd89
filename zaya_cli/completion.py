"""Completion in shells: the script to install, and the names of models."""

from __future__ import annotations

import os
from typing import Literal

from zaya_cli.terminal.visible import visible

Shell = Literal["bash", "zsh", "fish", "powershell"]
_VARIABLE = "_ZAYA_COMPLETE"  # set by the script when the shell asks


def completion_script(shell: Shell) -> str:
    """What the shell must evaluate. Made by Typer, which also answers when the shell asks."""
    from typer.completion import get_completion_script

    return str(get_completion_script(prog_name="zaya", complete_var=_VARIABLE, shell=shell))


def prepare_completion() -> None:
    """Let Typer answer a shell that asks. Does nothing for a person."""
    if _VARIABLE in os.environ:
        from typer.completion import completion_init

        completion_init()


def complete_model(incomplete: str) -> list[str]:
    """Names of present models that begin so. Errors would only disturb the prompt."""
    from zaya_cli.models.inventory import present_models

    try:
        names = [model.name for model in present_models() if model.name.startswith(incomplete)]
    except OSError:
        return []
    return [name for name in names if visible(name) == name]
