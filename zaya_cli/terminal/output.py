"""The two streams: answers and JSON on stdout, everything else on stderr."""

from __future__ import annotations

import codecs
import errno
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any, Literal, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from zaya_cli.terminal.lost_output import divert_stdout, expect_losses
from zaya_cli.terminal.visible import escaped, visible
from zaya_core.redaction import redacted

Color = Literal["auto", "always", "never"]
Format = Literal["text", "json", "jsonl"]


def write_answer(text: str, is_whole: bool = False) -> None:
    """Write a piece of the answer at once: as it is into a file or a pipe, fit to be seen on a terminal.

    What standard output does not take goes to stderr, and so does all that follows; `lost_output` tells. is_whole: the
    result of a long computation, which goes there also when the reader of a pipe has gone. Raises BrokenPipeError for
    any other piece.
    """
    try:
        _put(text)
    except OSError as error:
        if isinstance(error, BrokenPipeError) and not is_whole:
            raise
        reason = divert_stdout(error)
        write_note(f"zaya: the answer could not be written to standard output ({reason}); here it is:")
        _put(text)


def _put(text: str) -> None:
    sys.stdout.write(visible(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def write_thinking(console: Console, text: str) -> None:
    """Write a piece of thinking at once, likewise, to stderr."""
    if console.is_terminal or sys.stderr.isatty():
        console.print(text, end="", style="dim")
    else:
        sys.stderr.write(text)
        sys.stderr.flush()


def write_note(text: str) -> None:
    """Write a line for people to stderr, without secrets, and without what could steer a terminal."""
    sys.stderr.write(visible(redacted(text)) + "\n")
    sys.stderr.flush()


def write_json(value: dict[str, Any] | list[Any], is_whole: bool = False) -> None:
    """Write one line of JSON; see `write_answer`."""
    write_answer(escaped(json.dumps(value, ensure_ascii=False)) + "\n", is_whole)


def prepare_streams() -> None:
    """What the caller closed is empty, or takes everything, and what an encoding cannot express is shown as its like in
    ASCII, or as `?`, instead of ending the program; nor does what stderr has no room for. What is typed under a locale
    of ASCII is read as UTF-8."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None or (mode == "r" and not _is_readable(sys.stdin)):
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    codecs.register_error(_IN_ASCII, _in_ascii)
    codecs.register_error(_AS_BYTES, _as_bytes)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            is_exact = stream is sys.stdout and not stream.isatty()
            stream.reconfigure(errors=_AS_BYTES if is_exact else _IN_ASCII)
    if hasattr(sys.stdin, "reconfigure") and codecs.lookup(sys.stdin.encoding).name == "ascii":
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    expect_losses()
    logging.setLogRecordFactory(_public_record)
    logging.captureWarnings(True)


def _public_record(*arguments: Any, **settings: Any) -> logging.LogRecord:
    """What a library has to say, as `write_note` would."""
    record = logging.LogRecord(*arguments, **settings)
    record.msg, record.args = visible(redacted(record.getMessage())), ()
    if record.exc_info and record.exc_info[1]:
        record.exc_text = visible(redacted("".join(traceback.format_exception(record.exc_info[1]))))
    return record


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


def _as_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """A name that is no UTF-8 goes into a pipe as the bytes that it is."""
    if isinstance(error, UnicodeEncodeError) and 0xDC80 <= (code := ord(error.object[error.start])) <= 0xDCFF:
        return bytes([code - 0xDC00]), error.start + 1
    return _in_ascii(error)


_IN_ASCII, _AS_BYTES = "zaya.in_ascii", "zaya.as_bytes"
_LIKES: dict[int, str | int] = {
    **str.maketrans("·–—─━•…‘’“”│▌×→\xa0", "-----*.''\"\"||x> "),  # of what this program and its markdown use
    **{0x2400 + code: f"^{chr(code ^ 0x40)}" for code in range(0x20)},  # pictures of control characters
    0x2421: "^?",
}


class VisibleConsole(Console):
    """A console on which text steers nothing, whatever it is wrapped in; only the console's own codes do."""

    def __init__(self, **settings: Any):
        super().__init__(highlight=False, markup=False, emoji=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """As visible text, so that it is measured as it will be."""
        return super().render_str(visible(text), **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The same for texts that come as something else, such as markdown with entities for control characters."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def stderr_console(color: Color) -> Console:
    """For thinking, progress and notes. Without colour there are no escape codes at all, also no bold or dim."""
    return _console(sys.stderr, color)


def stdout_console(color: Color = "auto") -> Console:
    """For a command whose answer is a table. Without colour there are no escape codes at all."""
    return _console(sys.stdout, color)


def _console(stream: TextIO, color: Color) -> Console:
    plain = color == "never" or (color == "auto" and (bool(os.environ.get("NO_COLOR")) or not stream.isatty()))
    return VisibleConsole(
        file=stream,
        force_terminal=False if plain else True if color == "always" else None,
        color_system=None if plain else "auto",
        soft_wrap=True,
    )


def markdown_console() -> Console:
    """For an answer on a terminal, wrapped at its width."""
    return VisibleConsole(file=sys.stdout)


def draws(console: Console) -> bool:
    """Whether lines may be rewritten: a real terminal, not dumb, on which escape codes are wanted."""
    return sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal
