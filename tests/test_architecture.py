"""The rooms are a stack: zaya_cli -> zaya_core -> quant. A room's folders are floors, and nothing looks upwards."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {"zaya_cli": {"zaya_cli", "zaya_core"}, "zaya_core": {"zaya_core", "quant"}, "quant": {"quant"}}
ROOMS = {*MAY_IMPORT, "tests", "benchmarks", "demo"}
FILES = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))
SOURCES = {".py", ".cpp", ".h", ".inc"}
LEAST_FILES, MOST_FILES = 3, 16  # of a folder
MOST_LINES = 60  # of a function

# From the ground up: the folders and the modules at the root of a room. Each imports itself and those before it.
FLOORS = {
    "zaya_cli": """
        sizes user_files terminal system_errors machine models completion flags failures placing runtime answer rsa chat
        serve commands app reference __main__
    """,
    "zaya_core": """
        errors whole_numbers redaction files proxies child_process config checkpoint machine cache sampling model
        kernels load text engine quantize measure answers rsa
    """,
    "quant": """
        formats large_pages kernels matrix card_products tiles rounding compensation products packed dense int4 int8 nf4
        compressed assemble
    """,
}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_of(path: Path) -> str:
    """`zaya_cli/models/hub.py` as `zaya_cli.models.hub`, a package by its folder's name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(tree: ast.Module) -> Iterator[str]:
    """All, also those in functions and under TYPE_CHECKING. `from a import b` may name the module a or a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def graph_of(room: str) -> dict[str, set[str]]:
    """The modules of a room, each with those of the room that it imports. A package stands for its `__init__.py`."""
    modules = {module_of(path): path for path in FILES if path.relative_to(ROOT).parts[0] == room}
    graph = {}
    for name, path in modules.items():
        targets = (
            one if one in modules else one.rpartition(".")[0] for one in imported_modules(tree_of(path))
        )  # what is no module is something in one
        graph[name] = {target for target in targets if target in modules} - {name}
    return graph


def floor_of(module: str) -> str:
    """The folder, or the module at the root of the room; "" for the room's `__init__.py`, its door."""
    return [*module.split("."), ""][1]


def upward_imports(graph: Mapping[str, set[str]], floors: Iterable[str]) -> list[str]:
    height = {floor: number for number, floor in enumerate((*floors, ""))}
    return [
        f"{module} imports {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if height[floor_of(target)] > height[floor_of(module)]
    ]


def test_a_room_imports_only_itself_and_those_below():
    offenders = []
    for path in FILES:
        room = path.relative_to(ROOT).parts[0]
        packages = {module.split(".")[0] for module in imported_modules(tree_of(path))}
        offenders += [f"{path.relative_to(ROOT)} imports {one}" for one in packages & ROOMS - MAY_IMPORT[room]]
    assert not offenders


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_no_modules_of_a_room_import_each_other_in_a_circle(room):
    try:
        TopologicalSorter(graph_of(room)).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("room", FLOORS)
def test_the_folders_of_a_room_are_floors_and_nothing_looks_upwards(room):
    graph, floors = graph_of(room), FLOORS[room].split()
    assert sorted({floor_of(module) for module in graph} - {""}) == sorted(floors)
    assert not upward_imports(graph, floors)


def test_a_circle_and_a_look_upwards_are_seen_wherever_the_import_stands():
    code = """
from room.low import a
if TYPE_CHECKING:
    import room.high.b
def later():
    from room.middle.c import thing
"""
    assert set(imported_modules(ast.parse(code))) == {"room.low.a", "room.high.b", "room.middle.c.thing"}
    graph = {"room": set(), "room.low.a": {"room.high.b"}, "room.high.b": {"room.low.a"}}
    assert upward_imports(graph, ["low", "high"]) == ["room.low.a imports room.high.b"]
    with pytest.raises(CycleError):
        TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_folder_has_three_to_sixteen_files(room):
    """Of sources; a folder with nothing but data, or with an `__init__.py` for it, is none of code."""
    sources = [path for path in (ROOT / room).rglob("*") if path.suffix in SOURCES and path.name != "__init__.py"]
    counts = Counter(str(path.parent.relative_to(ROOT)) for path in sources)
    assert not {folder: count for folder, count in counts.items() if not LEAST_FILES <= count <= MOST_FILES}


def unexplained(path: Path) -> Iterator[str]:
    """What of a file has no docstring, or does not fit a screen."""
    tree = tree_of(path)
    if not ast.get_docstring(tree):
        yield "a module docstring is missing"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MOST_LINES:
                yield f"{node.name} has {length} lines"
    things = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    yield from (
        f"{one.name} has no docstring" for one in things if not one.name.startswith("_") and not ast.get_docstring(one)
    )


def test_every_module_and_public_thing_says_what_it_is_in_functions_that_fit_a_screen():
    assert not [f"{path.relative_to(ROOT)}: {what}" for path in FILES for what in unexplained(path)]


def test_only_the_command_line_prints():
    for path in FILES:
        if path.relative_to(ROOT).parts[0] != "zaya_cli":
            names = [
                node.func.id
                for node in ast.walk(tree_of(path))
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            ]
            assert "print" not in names, path


def test_one_module_of_the_kernels_asks_where_tensors_are():
    """It checks what native code relies on; no address goes past it."""
    kernels = [path for path in FILES if "kernels" in path.relative_to(ROOT).parts]
    asking = {path.relative_to(ROOT).as_posix() for path in kernels if "data_ptr" in path.read_text(encoding="utf-8")}
    assert asking == {"quant/kernels/pointers.py"}
