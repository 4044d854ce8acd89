"""The wall between the rooms' C++: quant has products, knows no model, and includes nothing of the model's steps."""

from __future__ import annotations

import re

import pytest

from tests.native_build import ROOT, cpp_files

FILES = cpp_files(".cpp", ".h", ".inc")
OF_THE_MODEL = ("router", "token", "logits", "decoder layer", "zaya_decode", "zaya_attend", "zaya_mix", "zaya_project")
PREFIXES = {"quant": "quant_", "zaya_core": "zaya_"}


def room_of(path):
    return path.relative_to(ROOT).parts[0]


def includes_of(path):
    """What a file includes in quotes."""
    return re.findall(r'^\s*#\s*include\s+"([^"]+)"', path.read_text(encoding="utf-8"), re.MULTILINE)


def test_each_room_has_cpp():
    assert {room_of(path) for path in FILES} == {"quant", "zaya_core"}


def test_a_file_includes_its_own_room_and_those_below_by_their_paths():
    for path in FILES:
        for name in includes_of(path):
            assert (ROOT / name).is_file(), f"{path}: {name} is no path from the root of the repository"
            assert room_of(ROOT / name) in {"quant", room_of(path)}, path


def test_what_is_compiled_for_an_instruction_set_stays_apart():
    """A .inc file includes only such ones, brings no standard library into the region, and shares no name outside."""
    for path in (path for path in FILES if path.suffix != ".cpp"):
        text = path.read_text(encoding="utf-8")
        assert "#pragma once" in text, path
        assert {name.endswith(".inc") for name in includes_of(path)} <= {path.suffix == ".inc"}, path
        if path.suffix == ".inc":
            assert "#include <" not in text, f"{path}: sets/target.h includes the standard library"
            assert "namespace zaya {\nnamespace {\n" in text, path


def test_only_the_files_of_the_sets_include_what_is_compiled_for_one():
    including = {path for path in FILES if any(name.endswith(".inc") for name in includes_of(path))}
    assert {path.parent.name for path in including if path.suffix == ".cpp"} == {"sets"}


def test_quant_knows_no_zaya():
    paths = [path for path in (ROOT / "quant").rglob("*") if path.suffix in (".py", ".cpp", ".h", ".inc")]
    for path in paths:
        text = path.read_text(encoding="utf-8").lower()
        assert [word for word in OF_THE_MODEL if word in text] == [], path


@pytest.mark.parametrize("room", PREFIXES)
def test_exported_functions_bear_the_name_of_their_room(room):
    text = (ROOT / room / "kernels" / "abi.h").read_text(encoding="utf-8")
    names = re.findall(r"^ZAYA_API [^(]*?(\w+)\(", text, re.MULTILINE)
    assert names and all(name.startswith(PREFIXES[room]) for name in names)
    elsewhere = [path for path in FILES if path.suffix == ".h" and path.name != "abi.h"]
    assert not [path for path in elsewhere if "ZAYA_API" in path.read_text(encoding="utf-8")]


def test_no_line_is_wider_than_120_columns():
    """Of Python, too: ruff lets lines pass that end in a remark to a tool."""
    python = [
        path
        for folder in (*PREFIXES, "zaya_cli", "tests", "benchmarks", "demo")
        for path in (ROOT / folder).rglob("*.py")
    ]
    wide = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in [*FILES, *(ROOT / "tests").rglob("*.cpp"), *python]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > 120
    ]
    assert wide == []
