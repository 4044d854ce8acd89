"""The rooms are a stack: zaya_cli -> zaya_core -> quant, and nothing looks upwards."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {"zaya_cli": {"zaya_cli", "zaya_core"}, "zaya_core": {"zaya_core", "quant"}, "quant": {"quant"}}
ROOMS = {*MAY_IMPORT, "tests", "benchmarks", "demo"}
FILES = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))


def imported_packages(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_itself_and_those_below(path):
    room = path.relative_to(ROOT).parts[0]
    tree = ast.parse(path.read_text())
    assert set(imported_packages(tree)) & ROOMS <= MAY_IMPORT[room]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_and_public_thing_says_what_it_is_in_functions_that_fit_a_screen(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "a module docstring is missing"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_only_the_command_line_prints():
    for path in FILES:
        if path.relative_to(ROOT).parts[0] != "zaya_cli":
            names = [
                node.func.id
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            ]
            assert "print" not in names, path


def test_one_module_of_the_kernels_asks_where_tensors_are():
    """It checks what native code relies on; no address goes past it."""
    kernels = [path for path in FILES if "kernels" in path.relative_to(ROOT).parts]
    asking = {path.relative_to(ROOT).as_posix() for path in kernels if "data_ptr" in path.read_text()}
    assert asking == {"quant/kernels/pointers.py"}
