"""Settings as dataclasses: one flag for each field, in the order in which they stand."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from zaya_cli.flags.groups import Without, with_groups


@dataclass(frozen=True)
class Inner:
    """Settings within others."""

    depth: Annotated[int, typer.Option("--depth")] = 1
    width: Annotated[int, typer.Option("--width")] = 2


@dataclass(frozen=True)
class Outer:
    """Settings with others in the middle."""

    names: Annotated[list[str] | None, typer.Argument()] = None
    inner: Annotated[Inner, Without("width")] = field(default_factory=Inner)
    loud: Annotated[bool, typer.Option("--loud")] = False


@pytest.fixture
def app():
    app = typer.Typer()
    app.seen = []  # type: ignore[attr-defined]

    @app.command()
    @with_groups
    def command(ctx: typer.Context, outer: Outer) -> None:
        app.seen.append((ctx.info_name, outer))  # type: ignore[attr-defined]

    app.signature = inspect.signature(command)  # type: ignore[attr-defined]
    return app


def test_a_group_has_its_flags_where_it_stands(app):
    assert list(app.signature.parameters) == ["ctx", "names", "depth", "loud"]


def test_what_is_typed_arrives_as_the_group_and_the_rest_has_its_default(app):
    assert CliRunner().invoke(app, ["a", "b", "--depth", "7"]).exit_code == 0
    assert [outer for _, outer in app.seen] == [Outer(["a", "b"], Inner(7, 2), loud=False)]


def test_a_flag_that_is_left_out_is_none_of_the_command(app):
    assert CliRunner().invoke(app, ["--width", "3"]).exit_code == 2
