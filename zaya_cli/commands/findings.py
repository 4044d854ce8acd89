"""Findings as a block of lines to paste, or as JSON: no secrets in them, and no name of a home folder."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from zaya_cli.failures import sentence_of
from zaya_cli.flags.options import InfoKind
from zaya_cli.terminal.output import stdout_console, write_json
from zaya_cli.terminal.visible import one_line
from zaya_cli.user_files import from_home
from zaya_core.measure.checkup.finding import Finding
from zaya_core.redaction import redacted

_MARKS = {"ok": " ", "note": "!", "problem": "X"}
_TOPIC = 10  # columns
_LONGEST, _END = 600, 120  # characters of a text in a block to paste, and of its end, which says what to do


def report(findings: Iterable[Finding], format: InfoKind, columns: int | None = None) -> None:
    """Print each finding as soon as it is known. Raises SystemExit(1) if there is a problem.

    columns: where lines of text are broken, and that long sentences are cut in their middle; None: neither.
    """
    console, seen = stdout_console(), []
    for finding in findings:
        finding = replace(finding, text=_public(finding.text))
        seen.append(finding)
        if format == "text":
            for line in _lines(finding, columns):
                console.print(line)
    problems = [finding for finding in seen if finding.state == "problem"]
    if format == "json":
        write_json([{"topic": f.topic, "text": f.text, "state": f.state} for f in seen])
    elif problems:
        console.print(f"\n{len(problems)} problem{'s' * (len(problems) != 1)}, marked X.")
    else:
        console.print("\nNo problems. Lines marked ! are worth reading.")
    if problems:
        raise SystemExit(1)


def guarded(parts: Iterable[Callable[[], Iterator[Finding]]]) -> Iterator[Finding]:
    """A part that fails is a finding, and the rest goes on."""
    for part in parts:
        try:
            yield from part()
        except Exception as error:  # what is broken is what a report is for
            yield Finding("failure", sentence_of(error), "problem")


def _lines(finding: Finding, columns: int | None) -> list[str]:
    told = finding.text
    if columns is not None and len(told) > _LONGEST:
        told = f"{told[: _LONGEST - _END]} [...] {told[-_END:]}"
    text = one_line(f"{_MARKS[finding.state]} {finding.topic:<{_TOPIC}}{told}")
    if columns is None:
        return [text]
    indent = " " * (2 + _TOPIC)
    return textwrap.wrap(text, columns, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def _public(text: str) -> str:
    """Without secrets, and with `~` for the home folder, which is called after its owner."""
    text = redacted(text)
    home = from_home("~")
    for path in {str(home), os.path.realpath(home)}:
        if len(path) > len(home.anchor):  # a service may be at home in /
            text = re.sub(rf"{re.escape(path)}(?![\w.-])", "~", text)
    return text
