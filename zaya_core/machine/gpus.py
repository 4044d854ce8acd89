"""The cards that this PyTorch sees, each with what may keep it from being used."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from zaya_core.machine.gpu_hardware import gfx_overrides, nvidia_driver
from zaya_core.machine.gpu_kernels import why_no_kernels

BFLOAT16_SINCE = (8, 0)  # Ampere
# Processors with a GPU inside, for a PyTorch that does not say so: AMD's APUs; Jetson, Thor and GB10.
_INTEGRATED_GFX = re.compile("gfx(90c|902|909|1013|103[3-7]|1103|115.)")
_INTEGRATED_CAPABILITIES = ((5, 3), (6, 2), (7, 2), (8, 7), (10, 1), (11, 0), (12, 1))
_DRIVERS_MARGIN = 1.05  # a card may count what the system has reserved


@dataclass(frozen=True)
class Gpu:
    """A card that this PyTorch lists. Memory in bytes; `free_memory` is what other programs have left.

    capability: NVIDIA's, None on AMD. gfx: AMD's architecture, such as gfx1100, None on NVIDIA. shares_memory: its
    memory is main memory, so that what is free is free for both together. problem: why it cannot be used.
    """

    name: str
    total_memory: int
    free_memory: int
    capability: tuple[int, int] | None = None
    index: int = 0
    gfx: str | None = None
    is_integrated: bool = False
    shares_memory: bool = False
    problem: str | None = None

    @property
    def label(self) -> str:
        """As people name it."""
        return f"cuda:{self.index} ({self.name})"

    @property
    def has_bfloat16(self) -> bool:
        """Whether it computes in bfloat16; in float32 otherwise."""
        return self.capability is None or self.capability >= BFLOAT16_SINCE

    @property
    def suitability(self) -> tuple[bool, int]:
        """The higher the better: a card of its own, then by the bytes of bfloat16 for which there is room."""
        return not self.is_integrated, self.free_memory // (1 if self.has_bfloat16 else 2)


def visible_gpus(device: str = "auto") -> list[Gpu]:
    """Those that "auto", "cuda" or "cuda:N" may mean, in PyTorch's order, with those that cannot be used.

    To be asked takes memory of a card for as long as this process runs: for a number no other one is.
    """
    number = _number_of(device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong is said in the words of this program
        if number is not None:
            return [_gpu(number)] if number < _count() else []
        gpus: list[Gpu] = []
        while len(gpus) < _count():  # which is exact only once a card has been asked
            gpus.append(_gpu(len(gpus)))
        return gpus


def gpu_for(device: str, gpus: Sequence[Gpu], has_room: Callable[[Gpu], bool] = lambda gpu: True) -> Gpu | None:
    """Which of `visible_gpus` a device is, None where it is not there or cannot be used.

    Without a number it is the one that suits best, the first of equals; one with room before any without.
    """
    number = _number_of(device)
    usable = [gpu for gpu in gpus if gpu.problem is None and number in (None, gpu.index)]
    return max(usable, key=lambda gpu: (has_room(gpu), gpu.suitability), default=None)


def _number_of(device: str) -> int | None:
    number = device.partition(":")[2]
    return int(number) if number.isdecimal() and number.isascii() else None


def pytorch_build() -> str:
    """What the installed PyTorch was built for, in words: CUDA 12.8, ROCm 6.4, or CPUs only."""
    if torch.version.hip:
        return f"ROCm {torch.version.hip}"
    return f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs only"


def driver_and_build() -> str:
    """What computes on a card besides the card, as far as it is known: the driver, and what PyTorch was built for."""
    version = getattr(torch._C, "_cuda_getDriverVersion", None)
    known = [nvidia_driver(), None if version is None else str(version()), *gfx_overrides()]
    return ", ".join([pytorch_build(), *(one for one in known if one)])


def first_line(error: BaseException) -> str:
    """What PyTorch's errors say first; behind it come hints for those who write CUDA."""
    lines = str(error).strip().splitlines()
    return lines[0].strip().rstrip(".:")[:300] if lines else type(error).__name__


def _count() -> int:
    try:
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    except Exception:  # a damaged driver: no card then
        return 0


def _gpu(index: int) -> Gpu:
    name, capability, gfx, properties, problem = "unnamed", None, None, None, None
    total = free = 0
    try:
        name = torch.cuda.get_device_name(index)
        properties = _properties(index)
        total = int(getattr(properties, "total_memory", 0))
        if torch.version.hip:
            gfx = str(getattr(properties, "gcnArchName", "")).partition(":")[0] or None
        else:
            capability = torch.cuda.get_device_capability(index)
        problem = why_no_kernels(capability, gfx)
        free, total = torch.cuda.mem_get_info(index)  # the first call that needs the card itself
    except Exception as error:
        problem = problem or _why_unusable(error)
    is_integrated, system = _is_integrated(properties, capability, gfx), psutil.virtual_memory()
    shares_memory = is_integrated and total <= system.total * _DRIVERS_MARGIN  # not set aside by the firmware
    if shares_memory:
        free, total = min(free, system.available), min(total, system.total)
    return Gpu(name, total, free, capability, index, gfx, is_integrated, shares_memory, problem)


def _properties(index: int) -> Any:
    try:
        return torch.cuda.get_device_properties(index)
    except Exception:  # what they would say has its defaults
        return None


def _is_integrated(properties: Any, capability: tuple[int, int] | None, gfx: str | None) -> bool:
    said = getattr(properties, "is_integrated", None)
    if said is not None:
        return bool(said)
    return capability in _INTEGRATED_CAPABILITIES or (gfx is not None and _INTEGRATED_GFX.fullmatch(gfx) is not None)


def _why_unusable(error: Exception) -> str:
    said = first_line(error)
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in said:
        return "other programs have taken all of its memory: end them"
    if "busy or unavailable" in said:
        return "another program holds it for itself alone: end that program"
    return f"it fails ({said}): restart the machine or update its driver"
