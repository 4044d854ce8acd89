"""Checks zaya's kernels on a card in a process of its own, which may crash or hang without harm to this one.

A wrong address poisons all that a process has on a card, and a kernel that does not end can only be killed. The child
is `zaya_core.measure.card_check`; it writes a line of JSON for each thing it does, and its result in the last.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import IO, Any

from zaya_core.child_process import can_have_children, end_with_descendants, ended_after, search_path
from zaya_core.machine.gpus import Gpu
from zaya_core.machine.kernel_verdict import OUT_OF_MEMORY, KernelFailure, Verdict, keep_verdict
from zaya_core.machine.triton_support import CACHE_VARIABLE, cache_in_use
from zaya_core.whole_numbers import is_number

LONGEST_CHECK = 180.0  # seconds; it compiles dozens of kernels
_MODULE = "zaya_core.measure.card_check"
_START = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv.pop(1)); "
    "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
_LONGEST_LINE = 1 << 16
_MOST_STDERR = 1 << 14  # bytes of its end


@dataclass
class _Report:
    """What the child has said so far. State: changed by each line; `since` when it does what it does."""

    doing: str = "its start"
    since: float = field(default_factory=time.monotonic)
    result: dict[str, Any] | None = None
    unchecked: str | None = None
    on_progress: Callable[[str], None] = field(default=lambda text: None)

    def note(self, line: str) -> None:
        """Take in one line; what libraries print is none of ours."""
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return
        if not isinstance(said, dict):
            return
        if isinstance(doing := said.get("doing"), str):
            self.doing, self.since = doing, time.monotonic()
            self.on_progress(doing)
        if isinstance(result := said.get("result"), dict):
            self.result = result
        if isinstance(unchecked := said.get("unchecked"), str):
            self.unchecked = unchecked


def checked(
    gpu: Gpu, limit_seconds: float = LONGEST_CHECK, on_progress: Callable[[str], None] = lambda text: None
) -> Verdict:
    """Check now, whatever was found before, and keep what is found.

    on_progress: told what is compiled or computed. The child never outlives this process or the limit.
    """
    report, started = _Report(on_progress=on_progress), time.monotonic()
    fault = _run(_command(f"cuda:{gpu.index}", limit_seconds), limit_seconds, report)
    verdict = _verdict(report, fault, time.monotonic() - started)
    return keep_verdict(gpu, verdict)


def _command(device: str, limit: float) -> list[str]:
    where = ["--device", device, "--limit", str(limit)]
    return [sys.executable, "-c", _START, json.dumps(search_path()), _MODULE, *where]


def _run(command: Sequence[str], limit: float, report: _Report) -> str | None:
    """Let the child speak; why it did not end well, None if it did."""
    if not can_have_children():
        report.unchecked = "there is no Python interpreter to check them with"
        return None
    folder, _ = cache_in_use()
    try:
        with tempfile.TemporaryFile() as errors, _started(command, errors, {CACHE_VARIABLE: str(folder)}) as process:
            try:
                with ended_after(limit, lambda: end_with_descendants(process)) as was_ended:
                    _listen(process, report)
                    code = process.wait()
            finally:
                end_with_descendants(process)  # also what it has left behind, and itself after Ctrl-C
            if was_ended.is_set():
                return _why_too_long(limit, report)
            return None if code == 0 else _why_crashed(code, report, _last_line(errors))
    except (OSError, ValueError) as error:
        report.unchecked = f"no process can be started ({error})"
        return None


def _started(command: Sequence[str], errors: IO[bytes], changes: dict[str, str]) -> subprocess.Popen[bytes]:
    """Its standard input is never written to: that it ends tells the child that this process has."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={**os.environ, **changes},
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _listen(process: subprocess.Popen[bytes], report: _Report) -> None:
    """Until its output ends."""
    assert process.stdout is not None
    while line := process.stdout.readline(_LONGEST_LINE):
        report.note(line.decode("utf-8", "replace"))


def _why_too_long(limit: float, report: _Report) -> str | None:
    """A machine that is slow at all of it is not at fault: what has been compiled is kept by Triton."""
    if time.monotonic() - report.since < limit / 2:
        report.unchecked = f"it takes more than {limit:.0f} seconds, and the next start goes on with what is compiled"
        return None
    return f"the check of {report.doing} took more than {limit / 2:.0f} seconds and was ended"


def _why_crashed(code: int, report: _Report, said: str) -> str:
    """code: as Popen has it, below 0 for a signal."""
    if OUT_OF_MEMORY in said.lower():
        report.unchecked = said
    how = f"exit code {code}" if code > 0 else f"signal {-code}, {_name_of(-code)}"
    return f"the check of {report.doing} crashed ({how}{f': {said}' if said else ''})"


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "of no name"


def _last_line(errors: IO[bytes]) -> str:
    """What was last written that is not empty, in one short line."""
    errors.seek(0, os.SEEK_END)
    errors.seek(max(0, errors.tell() - _MOST_STDERR))
    lines = [line.strip() for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return " ".join(lines[-1].split()).rstrip(".")[:300] if lines else ""


def _verdict(report: _Report, fault: str | None, seconds: float) -> Verdict:
    """A child that has reported kernels, and fails at the graphs, has not failed for the kernels."""
    day = date.today().isoformat()
    if report.unchecked is not None:
        return Verdict(False, fault=report.unchecked, seconds=seconds, day=day, counts=False)
    if (result := report.result) is None:
        return Verdict(False, fault=fault or "the check ended without a result", seconds=seconds, day=day)
    failed, worst = _failures(result.get("failed")), result.get("worst")
    if failed is None or not is_number(worst):
        return Verdict(False, fault="the check said something else than a result", seconds=seconds, day=day)
    graphs_fault = fault or result.get("graphs_fault")
    return Verdict(
        passed=not failed,
        failed=failed,
        worst=float(worst),
        graphs=result.get("graphs") is True and graphs_fault is None,
        graphs_fault=None if graphs_fault is None else str(graphs_fault),
        seconds=seconds,
        day=day,
    )


def _failures(said: object) -> tuple[KernelFailure, ...] | None:
    """None for what are none."""
    try:
        return tuple(KernelFailure(**one) for one in said)  # type: ignore[attr-defined]
    except TypeError:
        return None
