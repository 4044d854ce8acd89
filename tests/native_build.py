"""The C++ of both rooms as programs for tests, compiled once: a second run of the tests finds them in build/tests.

A folder there is named by a hash of the compiler, the flags and all sources, so that a change of any makes a new one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build" / "tests"
KEPT = 8  # folders, the last used ones
MAINS = {
    "products": ROOT / "tests" / "quant" / "products_main.cpp",
    "parallel": ROOT / "tests" / "quant" / "parallel_main.cpp",
    "layer": ROOT / "tests" / "core" / "kernels" / "layer_main.cpp",
}
OPTIONS = ("-std=c++17", "-ffp-contract=off", "-pthread", f"-I{ROOT}")


def cpp_files(*suffixes: str) -> list[Path]:
    """Of both rooms, by the ends of their names."""
    found = (path for room in ("quant", "zaya_core") for path in (ROOT / room).rglob("*") if path.suffix in suffixes)
    return sorted(found)


def programs(
    names: Sequence[str], sources: Sequence[Path], compiler: str, *flags: str, libraries: Sequence[str] = ()
) -> dict[str, str]:
    """The paths of some of MAINS by name, each linked with the objects of all the sources and the libraries.

    Raises CalledProcessError where something does not compile; nothing is kept then.
    """
    folder = CACHE / _digest(names, sources, compiler, (*flags, *libraries))
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):  # two processes of the tests do not build the same
        if not (folder / "done").exists():
            _compile(folder, names, sources, [compiler, *OPTIONS, *flags], libraries)
            (folder / "done").touch()
            _forget_old()
        os.utime(folder)
    return {name: str(folder / name) for name in names}


def _digest(names: Sequence[str], sources: Sequence[Path], compiler: str, flags: Sequence[str]) -> str:
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True).stdout
    digest = hashlib.sha256(repr((compiler, version, OPTIONS, flags, names, [*map(str, sources)])).encode())
    for path in (*cpp_files(".cpp", ".h", ".inc"), *MAINS.values()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(
    folder: Path, names: Sequence[str], sources: Sequence[Path], command: list[str], libraries: Sequence[str]
) -> None:
    """Objects of everything at once, then the programs."""
    mains = [MAINS[name] for name in names]

    def build(number: int, source: Path) -> str:
        target = folder / f"{number}.o"
        subprocess.run([*command, "-c", str(source), "-o", str(target)], check=True, capture_output=True)
        return str(target)

    with ThreadPoolExecutor(os.cpu_count()) as jobs:
        objects = list(jobs.map(build, range(len(mains) + len(sources)), [*mains, *sources]))
    for name, main in zip(names, objects, strict=False):
        linked = [*command, main, *objects[len(mains) :], *libraries, "-o", str(folder / name)]
        subprocess.run(linked, check=True, capture_output=True)
    for one in objects:
        Path(one).unlink()


def _forget_old() -> None:
    """Keeps the folders that were used last."""
    done = sorted(CACHE.glob("*/done"), key=lambda path: path.parent.stat().st_mtime)
    for path in done[:-KEPT]:
        shutil.rmtree(path.parent, ignore_errors=True)
