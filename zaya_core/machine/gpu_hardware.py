"""Graphics cards that the operating system knows of, found without PyTorch.

Only to say why a card is not used: a PyTorch built for CPUs does not know that there is one. Does not import torch.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_PCI_DEVICES = Path("/sys/bus/pci/devices")
_VENDORS: dict[str, Literal["NVIDIA", "AMD"]] = {"0x10de": "NVIDIA", "0x1002": "AMD"}
_DISPLAY_CLASSES = ("0x03", "0x12")  # display controllers and processing accelerators
_DRIVER_MARKS: dict[Literal["NVIDIA", "AMD"], tuple[Path, ...]] = {
    "NVIDIA": tuple(map(Path, ("/proc/driver/nvidia/version", "/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so"))),
    "AMD": (Path("/dev/kfd"),),
}
_WINDOWS_DRIVERS: dict[str, Literal["NVIDIA", "AMD"]] = {"nvcuda.dll": "NVIDIA", "amdhip64.dll": "AMD"}


@dataclass(frozen=True)
class GpuHardware:
    """Cards of one maker, and whether the driver that PyTorch needs is loaded (NVIDIA's own, or AMD's with compute)."""

    maker: Literal["NVIDIA", "AMD"]
    has_driver: bool


def gpu_hardware() -> list[GpuHardware]:
    """One entry for each maker whose cards are in this machine; empty where nothing can be found out."""
    if sys.platform == "win32":
        system = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32"
        return [GpuHardware(maker, True) for name, maker in _WINDOWS_DRIVERS.items() if (system / name).exists()]
    makers = {maker for device in _devices() if (maker := _maker_of(device)) is not None}
    if _has_driver("NVIDIA"):  # containers and WSL may show no PCI devices
        makers.add("NVIDIA")
    return [GpuHardware(maker, _has_driver(maker)) for maker in sorted(makers)]


def _has_driver(maker: Literal["NVIDIA", "AMD"]) -> bool:
    return any(path.exists() for path in _DRIVER_MARKS[maker])


def _devices() -> list[Path]:
    try:
        return sorted(_PCI_DEVICES.iterdir())
    except OSError:
        return []


def _maker_of(device: Path) -> Literal["NVIDIA", "AMD"] | None:
    try:
        is_display = (device / "class").read_text().startswith(_DISPLAY_CLASSES)
        return _VENDORS.get((device / "vendor").read_text().strip()) if is_display else None
    except OSError:
        return None
