"""Collect what to ask: files, -p, and what is piped in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zaya_cli.terminal.output import write_note
from zaya_core.errors import MissingFileError, UsageError
from zaya_core.files.bounded_file import decoded, read_at_most, read_file

STDIN = "-"
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class Prompt:
    """One question and where it came from: a file's name, "-" for standard input, None for -p alone."""

    text: str
    source: str | None


def collect_prompts(files: Sequence[str], text: str | None) -> list[Prompt]:
    """One prompt for each file, or one of -p and piped text.

    -p with files is put in front of each; with piped text, in front of that; a blank line lies between. `-p -` and a
    file "-" read standard input. Raises: UsageError without anything to ask; MissingFileError.
    """
    if files:
        if text == STDIN:
            raise UsageError("-p - reads standard input, which cannot be combined with files: give one or the other.")
        prompts = [Prompt(_joined(text, _read(file)), file) for file in files]
    elif text == STDIN or text is None:
        prompts = [Prompt(_read_stdin(must_have=text == STDIN), STDIN)]
    else:
        piped = "" if sys.stdin.isatty() else _piped()
        prompts = [Prompt(_joined(text, piped), None)]
    for prompt in prompts:
        if not prompt.text.strip():
            where = {STDIN: "Standard input", None: "-p"}.get(prompt.source, prompt.source)
            raise UsageError(f"{where} is empty: there is nothing to ask. Give a file, -p TEXT, or pipe text in.")
    return prompts


def messages_of(system: str | None, prompt: Prompt) -> list[dict[str, str]]:
    """A prompt as the chat template takes it."""
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": prompt.text}]


def _read_stdin(must_have: bool) -> str:
    if sys.stdin.isatty():
        if not must_have:
            raise UsageError(
                "There is nothing to ask. Give a file, -p TEXT, or pipe text in; `zaya chat` is a conversation."
            )
        write_note("Reading the prompt from the terminal; end it with Ctrl-D.")
    return _piped()


def _piped() -> str:
    try:
        return _text(read_at_most(sys.stdin.buffer, _MOST_BYTES, "Standard input"), "standard input")
    except OSError as error:
        raise UsageError(f"Standard input cannot be read: {error.strerror}.") from None


def _read(file: str) -> str:
    if file == STDIN:
        return _read_stdin(must_have=True)
    return read_text_file(Path(file), "give the path of a text file, or -p TEXT")


def read_text_file(path: Path, hint: str = "give the path of a text file") -> str:
    """A file's text, to be asked about. Raises: MissingFileError with `hint`; UsageError if it is not usable."""
    name = str(path)
    try:
        return _text(read_file(path, _MOST_BYTES), name)
    except MissingFileError:
        raise MissingFileError(f"{name} does not exist: {hint}.") from None


def _text(content: bytes, name: str) -> str:
    return decoded(content, name).replace("\r\n", "\n").rstrip("\n")


def _joined(first: str | None, second: str) -> str:
    return "\n\n".join(part for part in (first, second) if part)
