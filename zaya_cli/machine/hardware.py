"""What this machine has: processor, memory (of the graphics card in use, or this process's share), and disk."""

from __future__ import annotations

import platform
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from zaya_cli.machine.control_groups import memory_limit
from zaya_core.machine.card_fit import usable_bytes
from zaya_core.machine.gpu_hardware import gpu_hardware

if TYPE_CHECKING:
    from zaya_core.machine.gpus import Gpu


@dataclass(frozen=True)
class Memory:
    """Bytes of memory where a model would lie. `free` counts what the system can give back at once, such as caches.

    card: the number of the graphics card whose memory it is. most: what was granted of it, None for all that is free.
    """

    place: str
    total: int
    free: int
    card: int | None = None
    most: int | None = None

    @property
    def usable(self) -> int:
        """Bytes that a model may take."""
        return self.total if self.card is None else usable_bytes(self.total, self.free, self.most)

    def at_most(self, most: int | None) -> Memory:
        """The same with no more than so many bytes granted; main memory is not bounded."""
        return self if self.card is None or most is None else replace(self, most=most)


def processor() -> str:
    """The model's name; the interpreter knows only the architecture on Linux."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_of(device: str) -> Memory:
    """Of the device that "auto", "cpu", "cuda" or "cuda:N" means here. Imports torch only where there may be a card."""
    if device.startswith("cuda") or (device != "cpu" and gpu_hardware()):
        from zaya_core.machine.gpus import gpu_for, visible_gpus

        if (gpu := gpu_for(device, visible_gpus(device))) is not None:
            return memory_of_card(gpu)
    return system_memory()


def memory_of_card(gpu: Gpu) -> Memory:
    """That of a card, which may be main memory."""
    place = f"{gpu.name}, in main memory" if gpu.shares_memory else gpu.name
    return Memory(place, gpu.total_memory, gpu.free_memory, gpu.index)


def system_memory() -> Memory:
    """The system's memory, or the share of it that a control group (a container) grants."""
    of_system = psutil.virtual_memory()
    limit = memory_limit()
    if limit is None or limit[0] >= of_system.total:
        return Memory("main memory", of_system.total, of_system.available)
    return Memory("main memory, limited by a control group", limit[0], min(limit[1], of_system.available))


def free_disk(folder: Path) -> int:
    """Bytes free on the disk where `folder` is, or would be made."""
    return shutil.disk_usage(_existing(folder)).free


def on_same_disk(one: Path, other: Path) -> bool:
    """Whether both folders are, or would be made, on the same disk."""
    return _existing(one).stat().st_dev == _existing(other).stat().st_dev


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
