"""Graphics cards that the operating system knows of, found without PyTorch.

Only to say why a card is not used: a PyTorch built for CPUs does not know that there is one. Does not import torch.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Maker = Literal["NVIDIA", "AMD"]

_ROOT = Path("/")
_PCI_DEVICES = "sys/bus/pci/devices"
_VENDORS: dict[str, Maker] = {"0x10de": "NVIDIA", "0x1002": "AMD"}
_DISPLAY_CLASSES = ("0x03", "0x12")  # display controllers and processing accelerators
_NVIDIA_DRIVER, _NVIDIA_DEVICE = "proc/driver/nvidia/version", "dev/nvidiactl"
_WSL_LIBRARY = "usr/lib/wsl/lib/libcuda.so"
_JETSON_DEVICES = ("dev/nvhost-ctrl-gpu", "dev/nvgpu")  # no PCI device, and older ones have no dev/nvidiactl
_AMD_DEVICE, _AMD_RENDERERS = "dev/kfd", "dev/dri"
_AMD_NODES = "sys/class/kfd/kfd/topology/nodes"
_GFX_VERSION = re.compile(r"^gfx_target_version ([1-9][0-9]{4,5})$", re.MULTILINE)  # 90012 is gfx90c; CPUs have 0
_OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"  # for all cards, or with `_N` behind for one
_WINDOWS_DRIVERS: dict[str, Maker] = {"nvcuda.dll": "NVIDIA", "amdhip64*.dll": "AMD"}


@dataclass(frozen=True)
class GpuHardware:
    """Cards of one maker, and whether the driver that PyTorch needs is loaded (NVIDIA's own, or AMD's with compute).

    absent, closed: the device file that the driver has and that is not there, as in a container, or that this process
    may not open.
    """

    maker: Maker
    has_driver: bool
    absent: str | None = None
    closed: str | None = None


def gpu_hardware() -> list[GpuHardware]:
    """One entry for each maker whose cards are in this machine; empty where nothing can be found out."""
    if sys.platform == "win32":
        system = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32"
        return [GpuHardware(maker, True) for name, maker in _WINDOWS_DRIVERS.items() if any(system.glob(name))]
    makers = {maker for device in _files_in(_PCI_DEVICES) if (maker := _maker_of(device)) is not None}
    if _nvidia().has_driver:  # containers, WSL and Jetson may show no PCI devices
        makers.add("NVIDIA")
    return [_amd() if maker == "AMD" else _nvidia() for maker in sorted(makers)]


def is_wsl() -> bool:
    """Whether this is Linux inside Windows, whose cards and drivers are those of Windows."""
    try:
        return sys.platform == "linux" and "microsoft" in (_ROOT / "proc/version").read_text(errors="replace").lower()
    except OSError:
        return False


def has_wsl_library() -> bool:
    """Whether NVIDIA's driver for Windows has put its CUDA library into this WSL."""
    return any((_ROOT / _WSL_LIBRARY).parent.glob(Path(_WSL_LIBRARY).name + "*"))


def nvidia_driver() -> str | None:
    """The loaded driver as it calls itself, None where there is none or the system does not say."""
    try:
        return (_ROOT / _NVIDIA_DRIVER).read_text(errors="replace").splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def amd_architectures() -> list[str]:
    """What the cards that AMD's driver computes on are, such as gfx1100, whatever variables make ROCm believe."""
    nodes = "\n".join(_properties(folder) for folder in _files_in(_AMD_NODES))
    versions = map(int, _GFX_VERSION.findall(nodes))
    return [f"gfx{version // 10_000}{version // 100 % 100:x}{version % 100:x}" for version in versions]


def gfx_overrides() -> list[str]:
    """The variables that make AMD cards report another architecture, all or one, with their values."""
    return sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(_OVERRIDE) and value)


def _properties(node: Path) -> str:
    try:
        return (node / "properties").read_text(errors="replace")
    except OSError:
        return ""


def _nvidia() -> GpuHardware:
    device = _ROOT / _NVIDIA_DEVICE
    if has_wsl_library() or any((_ROOT / name).exists() for name in _JETSON_DEVICES):
        return GpuHardware("NVIDIA", True)
    if device.exists():
        return GpuHardware("NVIDIA", True, closed=_if_closed(device))
    has_driver = (_ROOT / _NVIDIA_DRIVER).exists()
    return GpuHardware("NVIDIA", has_driver, absent=f"/{_NVIDIA_DEVICE}" if has_driver else None)


def _amd() -> GpuHardware:
    device = _ROOT / _AMD_DEVICE
    if not device.exists():
        return GpuHardware("AMD", False)
    renderers = [path for path in _files_in(_AMD_RENDERERS) if path.name.startswith("renderD")]
    closed = [name for path in renderers if (name := _if_closed(path)) is not None]
    one_is_open = len(closed) < len(renderers)  # that of another card may well be closed
    return GpuHardware(
        "AMD",
        True,
        absent=None if renderers else f"/{_AMD_RENDERERS}",
        closed=_if_closed(device) or (closed[0] if closed and not one_is_open else None),
    )


def _if_closed(path: Path) -> str | None:
    """Its name on this machine where this process may not read and write it."""
    return None if os.access(path, os.R_OK | os.W_OK) else f"/{path.relative_to(_ROOT).as_posix()}"


def _files_in(folder: str) -> list[Path]:
    try:
        return sorted((_ROOT / folder).iterdir())
    except OSError:
        return []


def _maker_of(device: Path) -> Maker | None:
    try:
        is_display = (device / "class").read_text().startswith(_DISPLAY_CLASSES)
        return _VENDORS.get((device / "vendor").read_text().strip()) if is_display else None
    except OSError:
        return None
