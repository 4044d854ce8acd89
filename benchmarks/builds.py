"""Built trees of this code base: the working tree and older commits, and programs run inside one of them.

It relies only on what every commit has: setuptools builds the C++ in place, `python -m zaya_cli run --format json`
answers, ZAYA_KERNELS chooses the kernels.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

WORKING_TREE = Path(__file__).parents[1]
_WITHOUT_SETUP_PY = "from setuptools import setup; setup()"


def commit_of(name: str) -> str:
    """The full hash of a commit, by whatever name git knows it."""
    return _git("rev-parse", "--verify", f"{name}^{{commit}}")


def checked_out(commit: str, cache: Path) -> Path:
    """A git worktree of the commit, in `cache` by its hash; one that is there already is taken as it is."""
    tree = cache.resolve() / commit
    if not tree.is_dir():
        _git("worktree", "prune")  # of caches that were deleted
        _git("worktree", "add", "--quiet", "--detach", str(tree), commit)
    return tree


def build(tree: Path) -> None:
    """Compile the library in place where it is missing or older than its sources.

    Raises RuntimeError when nothing came of it: the library is optional, so that a failed compilation is no error.
    """
    script = ["setup.py"] if (tree / "setup.py").exists() else ["-c", _WITHOUT_SETUP_PY]
    built = run_in(tree, *script, "--quiet", "build_ext", "--inplace")
    if built.returncode or not instruction_sets(tree):
        raise RuntimeError(f"{tree} was not built:\n{built.stderr[-4000:]}")


def instruction_sets(tree: Path) -> list[str]:
    """Names for ZAYA_KERNELS=native:NAME that this machine and the tree's library have, best first.

    Taken from the refusal of a name that nobody has: the only place to ask that does not depend on the tree's modules.
    """
    asked = run_in(tree, "-m", "zaya_cli", "run", "-m", "demo", "-p", "1", "--format", "json", kernels="native:?")
    message = json.loads(asked.stdout)["error"]["message"]
    offered = re.search(r"build have ([\w, ]+)\.", message)
    names = offered[1].split(", ") if offered else []
    return [name for name in names if name != "no native products"]


def run_in(tree: Path, *arguments: str, kernels: str = "auto", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with the tree's rooms, `variables`, and none of the user's ZAYA_ variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZAYA_")}
    environment |= {"PYTHONPATH": str(tree), "ZAYA_KERNELS": kernels, "HF_HUB_OFFLINE": "1"} | variables
    environment |= {"OMP_WAIT_POLICY": "PASSIVE"}  # spinning threads take seconds where others compute, too
    return subprocess.run([sys.executable, *arguments], cwd=tree, env=environment, capture_output=True, text=True)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(WORKING_TREE), *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
