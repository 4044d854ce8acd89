"""What is installed: the name, and that each library is named once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.native_build import cpp_files
from zaya_cli.machine.versions import DISTRIBUTION, installed_version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_program_looks_for_its_version_under_the_name_that_it_is_installed_by():
    assert PROJECT["name"] == DISTRIBUTION
    assert installed_version() in (None, PROJECT["version"])  # None in a checkout that was not installed


def test_no_text_tells_people_to_install_the_other_package_of_this_name():
    """pip would fetch `zaya` from the public index, which is a stranger's."""
    command = re.compile(r"pip3? install[^\n`&]*?[ '\"]zaya\b(?!-local|/)")
    files = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("demo/*.md")]
    files += [
        path for room in ("zaya_cli", "zaya_core", "quant", "benchmarks") for path in ROOT.glob(f"{room}/**/*.py")
    ]
    assert not [path.name for path in files if command.search(path.read_text(encoding="utf-8"))]


def test_each_library_is_required_once_for_one_machine():
    requirements = [requirement.replace(" ", "") for requirement in PROJECT["dependencies"]]
    without_marker = [re.split(r"[<>=!~;\[]", requirement)[0] for requirement in requirements]
    repeated = {name for name in without_marker if without_marker.count(name) > 1}
    assert repeated <= {"bitsandbytes"}  # which has one line a system
    assert len(requirements) == len(set(requirements))


@pytest.mark.processes
def test_help_does_not_wait_for_libraries_that_only_some_commands_use():
    """bitsandbytes is always installed, and takes seconds to import."""
    code = """
import sys
from zaya_cli.app import main
sys.argv = ['zaya', '--help']
try:
    main()
finally:
    print([*sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert "'zaya_cli.app'" in ran.stdout
    assert not any(f"'{name}'" in ran.stdout for name in ("bitsandbytes", "torch", "transformers", "sympy"))


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The names in the source archive and in a wheel made where no compiler works."""
    folder = tmp_path_factory.mktemp("archives")
    checkout = folder / "checkout"
    no_sources = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    for room in ("quant", "zaya_core", "zaya_cli"):
        shutil.copytree(ROOT / room, checkout / room, ignore=no_sources)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    code = "from setuptools.build_meta import build_sdist, build_wheel; build_sdist('..'); build_wheel('..')"
    environment = {**os.environ, "CC": "no-compiler", "CXX": "no-compiler"}
    subprocess.run([sys.executable, "-c", code], cwd=checkout, env=environment, check=True, capture_output=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        sources = {name.partition("/")[2] for name in archive.getnames()}
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return sources, set(wheel.namelist())


def test_the_source_archive_has_all_that_the_library_is_compiled_from(archives):
    sources, _ = archives
    wanted = {path.relative_to(ROOT).as_posix() for path in cpp_files(".cpp", ".h", ".inc")}
    assert wanted and wanted | {"setup.py", "pyproject.toml"} <= sources


@pytest.mark.skipif(sys.platform == "win32", reason="there CC does not choose the compiler")
def test_without_a_compiler_all_is_installed_but_the_library(archives):
    _, installed = archives
    modules = {
        path.relative_to(ROOT).as_posix()
        for room in ("quant", "zaya_core", "zaya_cli")
        for path in (ROOT / room).rglob("*.py")
    }
    assert modules <= installed
    assert "zaya_core/bundled/demo/model.safetensors" in installed
    assert not [name for name in installed if name.endswith((".so", ".cpp", ".h", ".inc"))]
