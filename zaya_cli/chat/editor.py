"""The person's editor."""

from __future__ import annotations

import os
import shlex
import shutil

from zaya_core.errors import UsageError

_VARIABLES = ("VISUAL", "EDITOR")  # the first that is set is taken
_USUAL = tuple(f"/usr/bin/{name}" for name in ("editor", "nano", "pico", "vi", "emacs"))  # what prompt_toolkit tries


def check_editor() -> None:
    """Raises UsageError where there is none, or not the one that the person named: another would open unasked."""
    name = next((name for name in _VARIABLES if os.environ.get(name)), None)
    if name is None:
        if not any(os.access(program, os.X_OK) for program in _USUAL):
            raise UsageError("There is no editor: set EDITOR to one that is installed, such as nano.")
        return
    command = os.environ[name]
    try:
        program = shlex.split(command)[0]
    except (ValueError, IndexError):
        raise UsageError(f"{name} is {command!r}, which is no command: set it to your editor, such as nano.") from None
    if shutil.which(program) is None:
        raise UsageError(f"{name} names the editor {program}, which cannot be found: set it to one that is installed.")
