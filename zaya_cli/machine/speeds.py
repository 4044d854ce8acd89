"""What was measured of the CPU against a card, kept in a file, so that it is measured once for each format.

A file that is damaged, or of another machine, driver or version, is measured again; so is a card that failed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from zaya_cli.machine.hardware import processor
from zaya_cli.machine.versions import DISTRIBUTION, installed_version
from zaya_cli.terminal.output import write_note
from zaya_cli.user_files import speeds_file
from zaya_core.files.kept_entries import KeptEntries
from zaya_core.kernels.resolve import products_in_use
from zaya_core.machine.device import Speeds
from zaya_core.machine.gpus import Gpu, driver_and_build
from zaya_core.machine.triton_support import triton_version
from zaya_core.measure.cpu_or_card import Trial, measured_speeds


@dataclass(frozen=True)
class SpeedRecord:
    """The speeds of one card beside this CPU. threads: with which the CPU computes."""

    gpu: Gpu
    threads: int

    def kept(self) -> dict[Trial, Speeds]:
        """What was measured before."""
        machine = self._machine()
        return {Trial(*one["trial"]): _speeds(one) for one in _entries() if one["machine"] == machine}

    def kept_or_measured(self, trial: Trial) -> Speeds | None:
        """Measures with a line on stderr, and keeps the result unless the card failed. None as `measured_speeds`."""
        if (known := self.kept().get(trial)) is not None:
            return known
        write_note(f"zaya: measuring once which of CPU and {self.gpu.label} is faster for {trial} ...")
        torch.set_num_threads(self.threads)
        speeds = measured_speeds(trial, f"cuda:{self.gpu.index}")
        if speeds is not None and speeds.failure is None:
            self._keep(trial, speeds)
        return speeds

    def _keep(self, trial: Trial, speeds: Speeds) -> None:
        machine = self._machine()
        others = [one for one in _entries() if one["machine"] != machine or Trial(*one["trial"]) != trial]
        new = {"machine": machine, "trial": list(trial), "cpu": speeds.cpu, "gpu": speeds.gpu}
        if (why := _kept().write(others, new)) is not None:
            path = speeds_file()
            write_note(f"zaya: what was measured cannot be kept in {path} ({why}): it is measured at every start.")

    def _machine(self) -> list[Any]:
        """All that a speed depends on besides the trial."""
        return [
            self.gpu.name,
            self.gpu.gfx or list(self.gpu.capability or ()),
            driver_and_build(),
            *(installed_version(name) for name in (DISTRIBUTION, "torch")),
            triton_version(),
            processor(),
            self.threads,
            [one.name for one in products_in_use(torch.device("cuda", self.gpu.index))],
        ]


def _kept() -> KeptEntries:
    return KeptEntries(speeds_file(), "speeds")


def _entries() -> list[dict[str, Any]]:
    """What the file holds, checked."""
    return [one for one in _kept().read() if _is_entry(one)]


def _is_entry(value: dict[str, Any]) -> bool:
    trial, rates = value.get("trial"), [value.get("cpu"), value.get("gpu")]
    is_trial = isinstance(trial, list) and [type(one) for one in trial] == [str, str, int]
    return is_trial and all(isinstance(one, float) and math.isfinite(one) and one > 0 for one in rates)


def _speeds(entry: dict[str, Any]) -> Speeds:
    return Speeds(entry["cpu"], entry["gpu"])
