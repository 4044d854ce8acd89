"""The limits of an Engine are computed in one place before it is made; nothing of the command line changes it later."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import zaya_cli
from zaya_cli import runtime
from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.machine.hardware import Memory

ROOT = Path(zaya_cli.__file__).parent
DEMO = RuntimeSettings(model="demo", device="cpu", threads=1)


def test_rows_that_are_asked_for_share_a_part_of_the_free_memory(monkeypatch):
    monkeypatch.setattr(runtime, "memory_of", lambda device: Memory("main memory", 8 * 10**9, 10**9))
    engine = runtime.open_runtime(DEMO, rows=3).engine
    pool = engine.states.pool
    assert engine.max_rows == 3
    assert pool.max_blocks == int(0.8e9 / pool.layout.bytes_per_block)


def test_without_rows_the_engine_has_its_own_limits():
    engine = runtime.open_runtime(DEMO).engine
    assert (engine.max_rows, engine.states.pool.max_blocks) == (16, None)


@pytest.mark.parametrize("rows", [None, 3])
def test_prompts_are_computed_in_short_chunks_where_the_system_stops_long_ones(monkeypatch, rows):
    assert runtime.open_runtime(DEMO, rows).engine.chunk == 1024
    monkeypatch.setattr("zaya_core.machine.watchdog.has_watchdog", lambda device: True)
    assert runtime.open_runtime(DEMO, rows).engine.chunk == 256


def test_rows_out_of_range_are_refused_before_a_model_is_looked_for(zaya):
    result = zaya("run", "-p", "x", "-m", "./missing", "--rsa", "2", "--rsa-parallel", "0")
    assert (result.code, result.err) == (2, "zaya: --rsa-parallel is 0; it must be from 1 to 1024.\n")


def written_attributes(tree):
    """`engine.states.pool.max_blocks` and its like, wherever such a thing is assigned to."""
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        yield from (ast.unparse(target) for target in targets if isinstance(target, ast.Attribute))


@pytest.mark.parametrize("owner", ["engine", "pool"])
def test_no_module_writes_into_an_engine(owner):
    writing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted(ROOT.rglob("*.py"))
        for name in written_attributes(ast.parse(path.read_text(encoding="utf-8")))
        if owner in name.split(".")[:-1]
    ]
    assert not writing
