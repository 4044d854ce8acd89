"""What is installed: the name, and that each library is named once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

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
