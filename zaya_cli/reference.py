"""Write the generated parts of `docs/cli.md`: `python -m zaya_cli.reference docs/cli.md`.

The commands and their flags come from the program itself, the exit codes from the table that decides them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from zaya_cli.app import app
from zaya_cli.failures import EXIT_CODES

_BEGIN, _END = "<!-- {} begins: written by python -m zaya_cli.reference docs/cli.md -->", "<!-- {} ends -->"
_HELP_FLAGS = ("help", "version")


def with_reference(page: str) -> str:
    """The page with its generated parts as they must be now. Raises ValueError if a marker is missing."""
    for name, lines in (("reference", _sections()), ("exit codes", _exit_codes())):
        begin, end = _BEGIN.format(name), _END.format(name)
        if begin not in page or end not in page:
            raise ValueError(f"the page lacks the marker {begin!r} or {end!r}")
        before, after = page[: page.index(begin)], page[page.index(end) :]
        page = f"{before}{begin}\n\n{chr(10).join(lines).strip()}\n\n{after}"
    return page


def commands() -> Iterator[tuple[str, Any]]:
    """Typer's objects of all commands by their full name, a group before what it holds."""
    yield from _flattened("zaya", get_command(app))


def _exit_codes() -> Iterator[str]:
    yield "| code | meaning |"
    yield "|--:|---|"
    for code, meaning in EXIT_CODES.items():
        yield f"| {code} | {meaning} |"


def _sections() -> Iterator[str]:
    for name, command in commands():
        yield f"### {name}"
        yield ""
        yield from _help_text(command.help or "")
        yield ""
        rows = [_row(parameter) for parameter in command.params if parameter.name not in _HELP_FLAGS]
        if rows:
            yield "| | | default |"
            yield "|---|---|---|"
            yield from rows
            yield ""


def _flattened(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    children = getattr(command, "commands", {})
    if name != "zaya":
        yield name, command
    for child, details in children.items():
        yield from _flattened(f"{name} {child}", details)


def _help_text(text: str) -> Iterator[str]:
    """Typer's help as Markdown: the examples become a block of code."""
    description, _, examples = text.partition("[bold]Examples[/bold]")
    yield from description.strip().splitlines()
    if examples:
        yield from ("", "```sh")
        yield from (line.strip() for line in examples.splitlines() if line.strip())
        yield "```"


def _row(parameter: Any) -> str:
    variable = f" (`{parameter.envvar}`)" if parameter.envvar else ""
    return f"| `{_spelling(parameter)}` | {parameter.help or ''}{variable} | {_default(parameter)} |"


def _spelling(parameter: Any) -> str:
    if not parameter.opts[0].startswith("-"):
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join((*parameter.opts, *parameter.secondary_opts))
    choices = parameter.type_descriptor.choices
    return f"{names} {' / '.join(map(str, choices))}" if choices else names


def _default(parameter: Any) -> str:
    shown = parameter.show_default
    if isinstance(shown, str):
        return shown
    return "" if parameter.default in (None, False) else str(parameter.default)


def main(path: str) -> None:
    """Rewrite the page in place."""
    page = Path(path)
    page.write_text(with_reference(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
