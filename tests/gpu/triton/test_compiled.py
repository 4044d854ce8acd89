"""Kernels compiled for cards that are not here: all compile, spill nothing, and load weights as vectors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("triton")

from tests.gpu.triton.compiled import TARGETS, Report

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent.parent.parent
USUAL = ("sm_86", "sm_120", "gfx1100", "gfx942")
SHARED = 48 << 10  # bytes: what a program has on all cards without being asked for more

# By words of a case and a target, the bytes of a thread that may go to memory, and why.
_REDUCTION = "an array of libdevice's sin and cos, into which it reduces an angle of any size"
SPILLS: dict[tuple[str, str], tuple[int, str]] = {
    ("angles", target): (32, _REDUCTION) for target in TARGETS if target.startswith("sm_")
}
WITHOUT_VECTORS = ("angles", "changed entries")  # 64 numbers a row; single logits here and there


def compiled_for(targets: Iterable[str], cache: Path) -> list[Report]:
    """All cases, two targets at a time, each in a process without the interpreter."""

    def one(target: str) -> list[Report]:
        environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
        environment |= {"TRITON_CACHE_DIR": str(cache / target)}
        command = [sys.executable, "-m", "tests.gpu.triton.compiled", target]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return [Report(**json.loads(line)) for line in done.stdout.splitlines()]

    with ThreadPoolExecutor(2) as pool:
        return [report for reports in pool.map(one, targets) for report in reports]


def too_much(report: Report) -> str | None:
    """What is beyond the budget of a kernel."""
    allowed = max(
        (most for (case, on), (most, _) in SPILLS.items() if case in report.case and on == report.target), default=0
    )
    if report.spilled > allowed:
        return f"{report.case} on {report.target} spills {report.spilled} bytes"
    if report.shared > SHARED:
        return f"{report.case} on {report.target} shares {report.shared} bytes"
    if not report.loads.get("128") and report.case not in WITHOUT_VECTORS:
        return f"{report.case} on {report.target} loads no vectors: {report.loads}"
    return None


@pytest.mark.parametrize("targets", [USUAL, pytest.param(TARGETS, marks=pytest.mark.long)], ids=["usual", "all"])
def test_kernels_keep_to_their_budgets(targets, tmp_path):
    found = [too_much(report) for report in compiled_for(targets, tmp_path)]
    assert found and not [one for one in found if one]
