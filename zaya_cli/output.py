"""The two streams: answers and JSON on stdout, everything else on stderr."""

from __future__ import annotations

import codecs
import errno
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, TextIO, cast

from rich.console import Console

Color = Literal["auto", "always", "never"]
Format = Literal["text", "json", "jsonl"]


_lost: list[OSError] = []  # why standard output no longer takes anything


def write_answer(text: str, is_whole: bool = False) -> None:
    """Write a piece of the answer, visible at once.

    What standard output does not take goes to stderr, and so does all that follows; `lost_output` tells. is_whole: the
    result of a long computation, which goes there also when the reader of a pipe has gone. Raises BrokenPipeError for
    any other piece.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not is_whole:
            raise
        _divert(error)
        sys.stdout.write(text)
        sys.stdout.flush()


def write_json(value: dict[str, Any] | list[Any], is_whole: bool = False) -> None:
    """Write one line of JSON; see `write_answer`."""
    write_answer(json.dumps(value, ensure_ascii=False) + "\n", is_whole)


def lost_output() -> OSError | None:
    """Why standard output did not take all of the answer; None where it did."""
    return _lost[0] if _lost else None


def discard_stdout() -> None:
    """Let it take everything: Python would complain again when it flushes at exit."""
    with suppress(OSError, ValueError):  # no file, as in a test
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def settle_stdout() -> None:
    """Write what is left in its buffer, or discard that."""
    try:
        sys.stdout.flush()
    except OSError:
        discard_stdout()


def _divert(error: OSError) -> None:
    _lost.append(error)
    discard_stdout()
    reason = "its reader has gone" if isinstance(error, BrokenPipeError) else error.strerror
    print(f"zaya: the answer could not be written to standard output ({reason}); here it is:", file=sys.stderr)
    sys.stdout = sys.stderr


class _Notes:
    """Standard error. A log on a full disk ends nothing: no answer depends on its notes."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with _without_loss():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with _without_loss():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def _without_loss() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError:
        pass


def prepare_streams() -> None:
    """What the caller closed is empty, or takes everything, and what an encoding cannot express is shown as its like in
    ASCII, or as `?`, instead of ending the program; nor does what stderr has no room for. What is typed under a locale
    of ASCII is read as UTF-8."""
    _lost.clear()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None or (mode == "r" and not _is_readable(sys.stdin)):
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    codecs.register_error(_IN_ASCII, _in_ascii)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_IN_ASCII)
    if hasattr(sys.stdin, "reconfigure") and codecs.lookup(sys.stdin.encoding).name == "ascii":
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    if not isinstance(sys.stderr, _Notes):
        sys.stderr = cast(TextIO, _Notes(sys.stderr))


def _is_readable(stream: TextIO) -> bool:
    """Not under nohup, which leaves a standard input that is open for writing alone."""
    try:
        if not stream.isatty():  # from the background even reading nothing of a terminal stops a program
            os.read(stream.fileno(), 0)
    except OSError as error:
        return error.errno != errno.EBADF
    return True


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_LIKES)
    return text.encode("ascii", "replace").decode("ascii"), error.end


_IN_ASCII = "zaya.in_ascii"
_LIKES = str.maketrans("·–—─━•…‘’“”│▌×→\xa0", "-----*.''\"\"||x> ")  # of what this program and its markdown use


def stderr_console(color: Color) -> Console:
    """For thinking, progress and notes. Without colour there are no escape codes at all, also no bold or dim."""
    return _console(sys.stderr, color)


def stdout_console(color: Color = "auto") -> Console:
    """For a command whose answer is a table. Without colour there are no escape codes at all."""
    return _console(sys.stdout, color)


def _console(stream: TextIO, color: Color) -> Console:
    plain = color == "never" or (color == "auto" and (bool(os.environ.get("NO_COLOR")) or not stream.isatty()))
    return Console(
        file=stream,
        force_terminal=False if plain else True if color == "always" else None,
        color_system=None if plain else "auto",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def draws(console: Console) -> bool:
    """Whether lines may be rewritten: a real terminal, not dumb, on which escape codes are wanted."""
    return sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal
