"""Python and C++ agree on every struct that passes between them; a library that does not is refused in one sentence."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import quant.kernels.abi as quant_abi
import zaya_core.kernels.abi as zaya_abi
from quant.kernels.abi import StaleLibraryError, expect_abi, load_library
from quant.kernels.native import library, supported_instruction_sets

ROOT = Path(__file__).parents[1]
ROOMS = {"quant": (quant_abi, "Quant"), "zaya_core": (zaya_abi, "Zaya")}
TYPES = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "float": ctypes.c_float, "double": ctypes.c_double}
MIRRORS = {prefix + mirror.__name__: mirror for abi, prefix in ROOMS.values() for mirror in abi.STRUCTS}
# A change of a struct changes its digest: then raise the version in abi.h and abi.py, and write both down here.
DIGESTS = {"quant": (1, "7bbb425dd997"), "zaya_core": (1, "2125b722a949")}
SETS = """
extern "C" const char* quant_instruction_set(int i) { return i == 0 ? "one" : i == 1 ? "two" : nullptr; }
extern "C" const char* zaya_instruction_set(int i) { return i == 0 ? "one" : nullptr; }
extern "C" void zaya_sample() {}
extern "C" void zaya_logsumexp() {}
"""
REBUILD = "rebuild: pip install -e ."


def header(room):
    return (ROOT / room / "kernels" / "abi.h").read_text(encoding="utf-8")


def structs_of(text):
    """Name and fields (name, ctypes type) of each struct of a header."""
    text = re.sub(r"//.*", "", text)
    found = {}
    for name, body in re.findall(r"struct (\w+) \{(.*?)\};", text, re.DOTALL):
        fields = []
        for declaration in filter(None, map(str.strip, body.split(";"))):
            ((kind, names),) = re.findall(r"^(?:const )?(\w+)(.*)$", declaration, re.DOTALL)
            for field in names.split(","):
                is_pointer = "*" in field
                name_of = re.sub(r"\bconst\b|[*\s]", "", field)
                fields.append((name_of, ctypes.c_void_p if is_pointer else TYPES.get(kind) or MIRRORS[kind]))
        found[name] = fields
    return {name: fields for name, fields in found.items() if name != "AbiStruct"}


@pytest.mark.parametrize("room", ROOMS)
def test_each_struct_has_the_fields_of_its_mirror(room):
    abi, prefix = ROOMS[room]
    mirrored = {prefix + mirror.__name__: [*mirror._fields_] for mirror in abi.STRUCTS}
    assert structs_of(header(room)) == mirrored


@pytest.mark.parametrize("room", ROOMS)
def test_no_struct_is_forgotten_in_a_table(room):
    abi, _ = ROOMS[room]
    table = re.findall(r"X\((\w+)\)", header(room).split("_ABI_STRUCTS(X)")[1].split("ZAYA_API")[0])
    assert sorted(table) == sorted(structs_of(header(room)))
    for path in (ROOT / room).rglob("*.py"):
        module = importlib.import_module(
            ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        )
        own = [
            thing for thing in vars(module).values() if isinstance(thing, type) and thing.__module__ == module.__name__
        ]
        assert {thing for thing in own if issubclass(thing, ctypes.Structure)} <= set(abi.STRUCTS), path


@pytest.mark.parametrize("room", ROOMS)
def test_a_changed_struct_has_a_new_version(room):
    abi, _ = ROOMS[room]
    structs = re.findall(r"struct \w+ \{.*?\};", re.sub(r"//.*", "", header(room)), re.DOTALL)
    digest = hashlib.sha256(" ".join("".join(structs).split()).encode()).hexdigest()
    assert (abi.VERSION, digest[:12]) == DIGESTS[room]
    assert re.findall(r"AbiVersion = (\d+);", header(room)) == [str(abi.VERSION)]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A function that builds the tables of structs from their sources with some text replaced."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if not compiler or sys.platform == "win32":
        pytest.skip("needs a C++ compiler")

    def build(*replaced):
        folder = tmp_path_factory.mktemp("stale")
        for one in ROOMS:
            (folder / one / "kernels").mkdir(parents=True)
            for name in ("abi.h", "abi.cpp"):
                text = (ROOT / one / "kernels" / name).read_text(encoding="utf-8")
                for old, new in replaced:
                    text = text.replace(old, new)
                (folder / one / "kernels" / name).write_text(text, encoding="utf-8")
        target = folder / "library.so"
        (folder / "sets.cpp").write_text(SETS)
        sources = [*(str(folder / one / "kernels" / "abi.cpp") for one in ROOMS), str(folder / "sets.cpp")]
        flags = ["-std=c++17", "-O0", "-shared", "-fPIC", f"-I{folder}"]
        subprocess.run([compiler, *flags, *sources, "-o", str(target)], check=True)
        return target

    return build


def loaded(path):
    """As both rooms load it."""
    expect_abi(load_library(str(path)), "zaya", "Zaya", zaya_abi.VERSION, zaya_abi.STRUCTS)


CHANGES = {
    "a field more": (
        "quant",
        "    int64_t n, k;\n",
        "    int64_t n, k, more;\n",
        "Panels has 48 bytes, that of these sources 40",
    ),
    "a field less": ("zaya_core", "    int64_t rotated;\n", "", "ZayaCca has"),
    "another version": ("quant", "AbiVersion = 1", "AbiVersion = 2", "version 2, these sources 1"),
    "a struct less": ("zaya_core", "X(ZayaSample)", "", "ZayaSample has 0 bytes"),
    "no table": ("quant", "quant_abi_version", "another_name", "older than these sources"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_library_of_other_sources_is_refused(built, change):
    room, old, new, words = CHANGES[change]
    assert old in header(room)
    path = built((old, new))
    with pytest.raises(StaleLibraryError, match=words) as refused:
        loaded(path)
    assert str(refused.value).endswith(REBUILD)


def test_the_same_sources_are_taken(built):
    loaded(built())


def test_products_and_steps_of_different_instruction_sets_are_refused(built):
    products = SimpleNamespace(library=load_library(str(built())))
    products.library.quant_instruction_set.restype = ctypes.c_char_p
    with pytest.raises(StaleLibraryError, match="different instruction sets"):
        zaya_abi.steps_of.__wrapped__(products)


def test_what_is_no_library_is_refused(tmp_path):
    (tmp_path / "cut.so").write_bytes(b"\x7fELF")
    with pytest.raises(StaleLibraryError, match=r"cannot be loaded.*rebuild: pip install -e \."):
        load_library(str(tmp_path / "cut.so"))


PROGRAM = """
import sys
from importlib.machinery import ModuleSpec

class Stale:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return ModuleSpec(name, None, origin={library!r}) if name == "quant.kernels._native" else None

sys.meta_path.insert(0, Stale)
from zaya_cli.__main__ import main
sys.argv = ["zaya", *{words!r}]
main()
"""


@pytest.mark.parametrize(
    "words",
    [
        ("run", "-p", "hello", "--model", "MODEL"),
        ("bench",),
        ("doctor",),
        ("quantize", "--calibrate", "none", "--model", "MODEL"),
    ],
    ids=lambda words: words[0],
)
def test_people_read_one_sentence_about_a_stale_library(built, tmp_path, words):
    words = [str(ROOT / "zaya_core" / "bundled" / "demo") if word == "MODEL" else word for word in words]
    path = built((CHANGES["a field more"][1], CHANGES["a field more"][2]))
    code = PROGRAM.format(library=str(path), words=words)
    environment = {
        **os.environ,
        "ZAYA_KERNELS": "auto",
        "XDG_DATA_HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == (1 if words[0] == "doctor" else 4), done.stderr
    said = " ".join((done.stdout + done.stderr).split())
    assert REBUILD in said and "stale" in said
    assert "Traceback" not in said and "Unexpected" not in said


def test_the_library_that_is_there_was_built_from_these_sources():
    if library() is None:
        pytest.skip("zaya was installed without a C++ compiler")
    for products in supported_instruction_sets().values():
        assert zaya_abi.steps_of(products) is library()
