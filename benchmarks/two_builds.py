"""This working tree beside an older commit: are the outputs the same bits, and who is faster?

    python -m benchmarks.two_builds [--old HEAD~1] [--bits] [--turns [40]] [--sets all] [--full-width] [--keep FOLDER]

--bits compares digests of logits and answers with each instruction set (`benchmarks/outputs.py`) and names the cases
that differ; --turns lets both take turns in one process (`benchmarks/turns.py`); neither of them does both. The older
commit is checked out and compiled once, below --cache (a minute). The models are the bundled one in bf16, int8 and
int4; --full-width takes random ones of ZAYA1-8B's width and 8 layers as well (8 GB in --keep or a temporary folder, and
minutes for each instruction set). Exit status 1 when an output differs or a build is slower. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.builds import WORKING_TREE, build, checked_out, commit_of, instruction_sets, run_in
from benchmarks.compared_models import compared_models
from benchmarks.turns import LEAST_TURNS

_TURNS = 40
_RUN_AS_FILE = "import runpy, sys; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
_ASKED = ("-m", "demo", "-p", "What is (12+7)*3-40?", "--seed", "3", "--threads", "2", "--format", "json")
# As the program tells glibc's allocator: what is freed is kept.
_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}


def main() -> int:
    """Compare and print; the exit status."""
    arguments = _arguments()
    both = not arguments.bits and arguments.turns is None
    commit = commit_of(arguments.old)
    old = checked_out(commit, arguments.cache)
    for tree in (old, WORKING_TREE):
        build(tree)
    differing: list[str] = []
    ratios: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        models = compared_models(arguments.keep or Path(temporary), arguments.full_width)
        if arguments.bits or both:
            sets = _sets(arguments.sets, instruction_sets(old), instruction_sets(WORKING_TREE))
            differing = [case for kernels in sets for case in compare(old, models, kernels)]
        if arguments.turns is not None or both:
            wide = [model for model in models if model.name.startswith("wide")]
            ratios = take_turns(old, wide or models, arguments.turns or _TURNS)
    print(json.dumps({"old": commit, "differing": differing, "ratios": ratios}))
    return int(bool(differing) or any(one["verdict"] == "regression" for one in ratios))


def compare(old: Path, models: Sequence[Path], kernels: str) -> Iterator[str]:
    """Print, with one choice of kernels, how each model's outputs compare; the names of the cases that differ."""
    trees = (old, WORKING_TREE)
    sides = {model.name: [_outputs(tree, model, kernels) for tree in trees] for model in models}
    sides["zaya run"] = [_answer(tree, kernels) for tree in trees]
    for source, (theirs, ours) in sides.items():
        name = f"{kernels}, {source}"
        differing = [case for case in theirs | ours if theirs.get(case) != ours.get(case)]
        print(f"{name}: {len(theirs)} cases, {len(differing)} differ", flush=True)
        for case in differing:
            print(f"    {case}", flush=True)
            yield f"{name}: {case}"


def take_turns(old: Path, models: Sequence[Path], turns: int) -> list[dict[str, Any]]:
    """Print the ratios of seconds as they are measured, and return them."""
    command = [sys.executable, "-m", "benchmarks.turns", str(old), str(WORKING_TREE), "--turns", str(turns)]
    command += map(str, models)
    environment = dict(os.environ) | _ALLOCATOR
    with subprocess.Popen(command, cwd=WORKING_TREE, env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        last = ""
        for line in running.stdout:
            print(last, end="", flush=True)
            last = line
    if running.returncode:
        raise RuntimeError(f"the measurement ended with exit code {running.returncode}; its own words are above.")
    found: list[dict[str, Any]] = json.loads(last)["ratios"]
    return found


def _outputs(tree: Path, model: Path, kernels: str) -> dict[str, Any]:
    """Digests by case. Raises RuntimeError when the build fails on the model: there is nothing to compare then."""
    script = str(WORKING_TREE / "benchmarks" / "outputs.py")
    ran = run_in(tree, "-c", _RUN_AS_FILE, script, str(model), kernels=kernels)
    if ran.returncode:
        raise RuntimeError(f"{tree} with {kernels} failed on {model}:\n{ran.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _answer(tree: Path, kernels: str) -> dict[str, Any]:
    """What `zaya run` says of the bundled model, without what a clock says."""
    with tempfile.TemporaryDirectory() as settings:  # none of the user's
        ran = run_in(tree, "-m", "zaya_cli", "run", *_ASKED, kernels=kernels, XDG_CONFIG_HOME=settings)
    found: dict[str, Any] = json.loads(ran.stdout)
    found.pop("timings", None)
    return found


def _sets(wanted: str, old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Values of ZAYA_KERNELS: of the names that were asked for, or of all that both builds have, and torch's."""
    if alone := sorted(set(old) ^ set(new)):
        print(f"only one build has {', '.join(alone)}")
    names = [*(name for name in new if name in old), "torch"]
    asked = names if wanted == "all" else wanted.split(",")
    if unknown := [name for name in asked if name not in names]:
        raise SystemExit(f"--sets: {', '.join(unknown)} is not among {', '.join(names)}")
    return [name if name == "torch" else f"native:{name}" for name in asked]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", default="HEAD~1", help="the commit to compare with")
    parser.add_argument("--bits", action="store_true", help="compare outputs")
    parser.add_argument("--turns", type=int, nargs="?", const=_TURNS, help=f"measure so many turns ({_TURNS})")
    parser.add_argument("--sets", default="all", help="instruction sets, with commas, and torch")
    parser.add_argument("--full-width", action="store_true", help="also 8 layers of full width")
    parser.add_argument("--keep", type=Path, help="folder for the models that are made, to be used again")
    parser.add_argument("--cache", type=Path, default=WORKING_TREE / "build" / "two_builds", help="for older builds")
    arguments = parser.parse_args()
    if arguments.turns is not None and arguments.turns < LEAST_TURNS:
        parser.error(f"--turns: at least {LEAST_TURNS}, so that there is a 95 % interval")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
