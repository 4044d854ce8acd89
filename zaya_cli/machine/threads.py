"""How many threads to compute with: the physical cores that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

from zaya_cli.machine.control_groups import cpu_quota
from zaya_cli.terminal.output import write_note
from zaya_core.errors import UsageError

_MOST = 1024
_TOPOLOGY = "/sys/devices/system/cpu/cpu{cpu}/topology"


def default_threads() -> int:
    """Physical cores within this process's affinity and its control groups' quota; at least 1.

    A second thread on the same core adds nothing to a program that waits for memory.
    """
    cpus = _allowed_cpus()
    cores = len({_core_of(cpu) for cpu in cpus}) if cpus else psutil.cpu_count(logical=False) or os.cpu_count() or 1
    quota = cpu_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def threads_to_use(wanted: int | None) -> int:
    """`wanted`, or the default where it is None; says so where more are wanted than there are processors.

    Raises UsageError outside of 1 to 1,024.
    """
    expect_threads(wanted)
    if wanted is None:
        return default_threads()
    processors = os.cpu_count() or 1
    if wanted > processors:
        write_note(f"zaya: {wanted:,} threads share {processors:,} processors: that is slower than fewer.")
    return wanted


def expect_threads(wanted: int | None) -> None:
    """Raises UsageError outside of 1 to 1,024; None is the default."""
    if wanted is not None and not 1 <= wanted <= _MOST:
        raise UsageError(f"--threads is {wanted:,}; it must be from 1 to {_MOST:,}.")


def _allowed_cpus() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _core_of(cpu: int) -> tuple[str, str]:
    """(package, core) of a logical processor; processors that nothing is known of count as cores of their own."""
    folder = Path(_TOPOLOGY.format(cpu=cpu))
    try:
        return (folder / "physical_package_id").read_text().strip(), (folder / "core_id").read_text().strip()
    except OSError:
        return "unknown", str(cpu)
