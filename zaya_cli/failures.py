"""Errors as people see them: one sentence on stderr and the exit code that scripts can rely on."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from typer.exceptions import Abort, TyperException

from zaya_cli.flags.errors import usage_sentence
from zaya_cli.system_errors import exit_code_of_system, system_sentence
from zaya_cli.terminal.lost_output import discard_stdout, lost_output, settle_stdout
from zaya_cli.terminal.visible import visible
from zaya_core import errors
from zaya_core.redaction import redacted

INTERRUPTED = 130

EXIT_CODES = {
    0: "success, also when the answer was cut at its length limit",
    1: "unexpected failure (`ZAYA_DEBUG=1` shows the traceback), no answer, reader of a pipe gone, or a problem found "
    "by `doctor`",
    2: "wrong usage, a bad setting, nothing to ask, a file that cannot be read or written",
    3: "model or file not found, or not complete",
    4: "does not fit into memory, on the disk or into a limit of the system, or the device is missing",
    5: "damaged model folder, or not a ZAYA model",
    6: "prompt longer than the context",
    7: "network failure, or access refused",
    INTERRUPTED: "interrupted by Ctrl-C; what was printed and what was downloaded stays",
    128 + signal.SIGTERM: "ended by SIGTERM, likewise",
    129: "the terminal was closed (SIGHUP), likewise",
}
_EXIT_CODES_OF: tuple[tuple[type[BaseException], int], ...] = (
    (errors.UsageError, 2),
    (TyperException, 2),
    (errors.ModelNotFoundError, 3),
    (errors.MissingFileError, 3),
    (errors.DeviceError, 4),
    (errors.MemoryFitError, 4),
    (errors.DiskSpaceError, 4),
    (errors.CheckpointError, 5),
    (errors.PromptTooLongError, 6),
    (errors.NetworkError, 7),
)


class Interrupted(Exception):
    """The command was asked to stop by a signal and has kept what there was; carries the exit code."""

    def __init__(self, exit_code: int):
        super().__init__(exit_code)
        self.exit_code = exit_code


def exit_code_of(error: BaseException) -> int:
    """A key of EXIT_CODES; 1 for what nobody foresaw."""
    if isinstance(error, Interrupted):
        return error.exit_code
    if isinstance(error, (KeyboardInterrupt, Abort)):
        return INTERRUPTED
    if (code := exit_code_of_system(error)) is not None:
        return code
    return next((code for kind, code in _EXIT_CODES_OF if isinstance(error, kind)), 1)


def sentence_of(error: BaseException) -> str:
    """What to tell the person, in one line without secrets, and without what could steer a terminal.

    Empty where Typer has shown the help already.
    """
    system = system_sentence(error)
    message = visible(" ".join(redacted(system or _message_of(error)).split()))
    if system or isinstance(error, (errors.ZayaError, TyperException)):
        return message
    return f"Unexpected {type(error).__name__}: {message[:300] or 'no details'}. Set ZAYA_DEBUG=1 for the traceback."


def _message_of(error: BaseException) -> str:
    return usage_sentence(error) if isinstance(error, TyperException) else str(error)


def error_json(error: BaseException) -> dict[str, Any]:
    """The object `error` of JSON output."""
    return {"message": sentence_of(error), "type": type(error).__name__, "exit_code": exit_code_of(error)}


def show_traceback(error: BaseException) -> None:
    """For ZAYA_DEBUG=1, with the exceptions that led to this one."""
    from zaya_cli.terminal.output import write_note

    if os.environ.get("ZAYA_DEBUG") == "1":
        write_note("".join(traceback.format_exception(error)).rstrip())


@contextmanager
def reported(as_json: bool = False) -> Iterator[None]:
    """Turn any exception of a command into its sentence and exit code."""
    from zaya_cli.terminal.output import write_json, write_note

    try:
        yield
        if (lost := lost_output()) is not None:
            raise SystemExit(exit_code_of(lost))
    except BrokenPipeError:
        _leave_quietly()
    except (SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        code = exit_code_of(error)
        settle_stdout()
        show_traceback(error)
        if not isinstance(error, (Interrupted, KeyboardInterrupt, Abort)) and (sentence := sentence_of(error)):
            if as_json:
                write_json({"error": error_json(error)})
            write_note(f"zaya: {sentence}")
        raise SystemExit(code) from None


def _leave_quietly() -> NoReturn:
    """The reader of our output has gone."""
    discard_stdout()
    raise SystemExit(1)
