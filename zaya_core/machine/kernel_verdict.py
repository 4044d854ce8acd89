"""What the check of zaya's kernels on a card has found, and the file in which it is kept.

It counts for one card, driver, PyTorch, Triton and the kernels as they are; of anything else nothing is known.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

import quant
from zaya_core.files.kept_entries import KeptEntries
from zaya_core.files.user_cache import user_cache
from zaya_core.machine.gpus import Gpu, driver_and_build
from zaya_core.machine.triton_support import triton_version
from zaya_core.whole_numbers import is_number

OUT_OF_MEMORY = "out of memory"  # as PyTorch, Triton and drivers say it, in lower case
_MOST_NAMED = 3  # failed kernels in a sentence
# What the numbers depend on: kernels, the layouts that they read, and the check itself.
_SOURCES = ("kernels/triton/**/*.py", "cache/arrangement.py", "measure/card_check/*.py")


@dataclass(frozen=True)
class KernelFailure:
    """One kernel that does not compute what torch does on the same card.

    difference: the largest, as a share of the largest number, of which `tolerance` is right; None where it failed
    otherwise, with `error`.
    """

    kernel: str
    difference: float | None
    tolerance: float
    error: str | None = None

    def __str__(self) -> str:
        """For people."""
        if self.difference is None:
            return f"{self.kernel} fails ({self.error})"
        return f"{self.kernel} differs from torch by {self.difference:.0e} (at most {self.tolerance:.0e} is right)"


@dataclass(frozen=True)
class Verdict:
    """Whether zaya's kernels may be used on a card.

    worst: the largest difference of a kernel that passed. fault: why the check came to no end. graphs: whether replays
    of the recorded step gave the same tokens; graphs_fault: why not, if that was tried. seconds: that it took. day: in
    ISO's spelling. counts: False where nothing was found out, as where the card had no memory left.
    unkept: why the file has no copy of it.
    """

    passed: bool
    failed: tuple[KernelFailure, ...] = ()
    worst: float = 0.0
    fault: str | None = None
    graphs: bool = False
    graphs_fault: str | None = None
    seconds: float = 0.0
    day: str = ""
    counts: bool = True
    unkept: str | None = None

    @property
    def sentence(self) -> str:
        """For people, without a full stop."""
        if self.passed:
            return f"checked on this card on {self.day}, worst difference {self.worst:.0e}"
        if not self.counts:
            return f"they could not be checked now: {self.fault}"
        named = [str(one) for one in self.failed[:_MOST_NAMED]]
        more = len(self.failed) - len(named)
        reasons = [self.fault] * (self.fault is not None) + named + [f"{more} more"] * (more > 0)
        return f"{', '.join(map(str, reasons))}; checked on {self.day}"


def verdicts_file() -> Path:
    """Where they are kept. May not exist."""
    return user_cache() / "kernels.json"


def kept_verdict(gpu: Gpu) -> Verdict | None:
    """What was found before, in this process or any; None where the kernels are to be checked."""
    machine = _machine(gpu)
    if (found := _found_here.get(str(machine))) is not None:
        return found
    kept = (_verdict(one) for one in _kept().read() if one["machine"] == machine)
    return next((one for one in kept if one is not None), None)


def keep_verdict(gpu: Gpu, verdict: Verdict) -> Verdict:
    """The same, with why it could not be kept. One that does not count is kept for as long as this process runs."""
    if verdict.counts and (why := _write(_machine(gpu), verdict)) is not None:
        verdict = replace(verdict, unkept=f"nothing can be kept in {verdicts_file()} ({why})")
    _found_here[str(_machine(gpu))] = verdict
    return verdict


_found_here: dict[str, Verdict] = {}  # by machine: what is found once is not asked twice in a process


def _kept() -> KeptEntries:
    return KeptEntries(verdicts_file(), "verdicts")


def _write(machine: list[Any], verdict: Verdict) -> str | None:
    others = [one for one in _kept().read() if one["machine"] != machine]
    return _kept().write(others, {"machine": machine, **asdict(verdict)})


def _machine(gpu: Gpu) -> list[Any]:
    """All that a verdict depends on; the variables that make an AMD card another one are part of the driver's."""
    kind = gpu.gfx or list(gpu.capability or ())
    return [gpu.name, kind, driver_and_build(), torch.__version__, triton_version(), _fingerprint()]


@cache
def _fingerprint() -> str:
    """Of the sources."""
    ours, below = Path(__file__).parents[1], Path(quant.__file__).parent
    paths = [*below.glob("*.py"), *(path for room in (ours, below) for one in _SOURCES for path in room.glob(one))]
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(paths, key=lambda path: (path.parent.name, path.name)):
        content = path.read_bytes()
        digest.update(f"{path.parent.name}/{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _verdict(entry: dict[str, Any]) -> Verdict | None:
    """None for an entry that is none."""
    fields = {name: value for name, value in entry.items() if name != "machine"}
    try:
        failed = tuple(KernelFailure(**one) for one in fields.pop("failed"))
        verdict = Verdict(failed=failed, **fields)
    except (TypeError, KeyError):
        return None
    numbers = [verdict.worst, verdict.seconds, *(one.tolerance for one in failed)]
    flags = [verdict.passed, verdict.graphs, verdict.counts]
    texts = [verdict.day, *(one.kernel for one in failed)]
    differences = [one.difference for one in failed if one.difference is not None]
    is_sound = (
        all(map(is_number, [*numbers, *differences]))
        and all(isinstance(one, bool) for one in flags)
        and all(isinstance(one, str) for one in texts)
        and verdict.passed == (not failed and verdict.fault is None)
    )
    return verdict if is_sound else None
