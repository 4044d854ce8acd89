"""Machines that nobody has here: what the system says of cards, and what PyTorch does."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from zaya_core.machine import gpu_hardware, gpu_kernels, gpu_notes, triton_support, unused_gpu, watchdog

GB = 10**9
NVIDIA, AMD = "0x10de", "0x1002"
NONE_THERE = "No CUDA GPUs are available"
HOST_LINUX = {"proc/version": "Linux version 6.8.0 (gcc)"}
WSL = {"proc/version": "Linux version 5.15.0-microsoft-standard-WSL2"}
NVIDIA_LINUX = {"proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX 580.95.05\n", "dev/nvidiactl": ""}
AMD_LINUX = {"dev/kfd": "", "dev/dri/card0": "", "dev/dri/renderD128": ""}
WSL_NVIDIA = {**WSL, "usr/lib/wsl/lib/libcuda.so.1": ""}


def kfd(*versions: int) -> dict[str, str]:
    """What AMD's driver says of its nodes: 100301 for gfx1031, 0 for a CPU."""
    nodes = "sys/class/kfd/kfd/topology/nodes"
    text = "cpu_cores_count 0\ngfx_target_version {}\nvendor_id 4098\n"
    return {f"{nodes}/{number}/properties": text.format(version) for number, version in enumerate(versions)}


_OF_CARDS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL")
_OF_TRITON = ("TRITON_INTERPRET", "TRITON_CACHE_DIR", "TRITON_HOME", "CC", "CPATH", "C_INCLUDE_PATH", "ZAYA_KERNELS")
_OVERRIDE = "HSA_OVERRIDE_GFX_VERSION"


@dataclass(frozen=True)
class Card:
    """One that PyTorch lists. integrated: None for a PyTorch that does not say. error: of the first real call."""

    name: str
    total: int = 12 * GB
    free: int = 10 * GB
    capability: tuple[int, int] = (8, 6)
    gfx: str = ""
    integrated: bool | None = False
    error: Exception | None = None

    @property
    def properties(self) -> SimpleNamespace:
        said = {} if self.integrated is None else {"is_integrated": int(self.integrated)}
        return SimpleNamespace(total_memory=self.total, gcnArchName=f"{self.gfx}:sramecc-:xnack-", **said)


@dataclass(frozen=True)
class Machine:
    """files: below the root, in place of what this system has. pci: vendors of display cards. kernels: as PyTorch
    lists them. start_error: of the first call into the driver. closed: files that may not be opened. programs: that can
    be found. has_headers: whether those of Python are there."""

    platform: str = "linux"
    files: dict[str, str] = field(default_factory=lambda: HOST_LINUX)
    pci: tuple[str, ...] = ()
    cuda: str | None = None
    hip: str | None = None
    cards: tuple[Card, ...] = ()
    kernels: tuple[str, ...] = ()
    start_error: str = NONE_THERE
    environment: dict[str, str] = field(default_factory=dict)
    closed: tuple[str, ...] = ()
    main_memory: tuple[int, int] = (64 * GB, 40 * GB)
    programs: tuple[str, ...] = ("gcc", "apt")
    has_triton: bool = True
    has_headers: bool = True

    def enter(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        """This process is on that machine from now on."""
        self._enter_system(patch, root)
        self._enter_triton(patch, root)
        self.enter_pytorch(patch)
        self.enter_main_memory(patch)
        for name in [name for name in os.environ if name in _OF_CARDS + _OF_TRITON or name.startswith(_OVERRIDE)]:
            patch.delenv(name)
        patch.setenv("TRITON_HOME", str(root / "home"))
        for name, value in self.environment.items():
            patch.setenv(name, value)

    def _enter_system(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        device = {f"sys/bus/pci/devices/{n}/vendor": f"{vendor}\n" for n, vendor in enumerate(self.pci)}
        kind = {f"sys/bus/pci/devices/{n}/class": "0x030000\n" for n in range(len(self.pci))}
        for name, content in {**self.files, **device, **kind}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
        patch.setattr(gpu_hardware, "_ROOT", root)
        patch.setenv("SYSTEMROOT", str(root / "Windows"))
        for module in (gpu_hardware, gpu_kernels, gpu_notes, unused_gpu, watchdog):
            patch.setattr(module, "sys", SimpleNamespace(platform=self.platform))
        closed = {root / name for name in self.closed}
        access = SimpleNamespace(**{name: getattr(os, name) for name in ("environ", "R_OK", "W_OK")})
        access.access = lambda path, mode: path not in closed
        patch.setattr(gpu_hardware, "os", access)

    def _enter_triton(self, patch: pytest.MonkeyPatch, root: Path) -> None:
        include = root / "include"
        include.mkdir(parents=True, exist_ok=True)
        if self.has_headers:
            (include / "Python.h").touch()
        says = {
            "sys": SimpleNamespace(platform=self.platform, version_info=SimpleNamespace(minor=11)),
            "shutil": SimpleNamespace(which=lambda name: name if name in self.programs else None),
            "find_spec": lambda name: name if self.has_triton else None,
            "requires": lambda name: ["sympy>=1.13", "triton==3.7.1; platform_system == 'Linux'"],
            "sysconfig": SimpleNamespace(
                get_default_scheme=lambda: "posix_prefix", get_paths=lambda scheme: {"include": str(include)}
            ),
        }
        for name, said in says.items():
            patch.setattr(triton_support, name, said)

    def enter_main_memory(self, patch: pytest.MonkeyPatch) -> None:
        """How much there is of it, and how much is free."""
        total, available = self.main_memory
        patch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=total, available=available))

    def enter_pytorch(self, patch: pytest.MonkeyPatch) -> None:
        """What PyTorch says of its cards."""
        patch.setattr(torch.version, "cuda", self.cuda)
        patch.setattr(torch.version, "hip", self.hip)
        answers: dict[str, Callable[..., object]] = {
            "is_available": lambda: bool(self.cards),
            "device_count": lambda: len(self.cards),
            "get_arch_list": lambda: list(self.kernels),
            "get_device_name": lambda device: self._card(device).name,
            "get_device_properties": lambda device: self._card(device).properties,
            "get_device_capability": lambda device: self._card(device).capability,
            "mem_get_info": self._memory,
            "init": self._start,
        }
        for name, answer in answers.items():
            patch.setattr(torch.cuda, name, answer)

    def _card(self, device: int | torch.device) -> Card:
        return self.cards[device if isinstance(device, int) else device.index or 0]

    def _memory(self, device: int) -> tuple[int, int]:
        card = self._card(device)
        if card.error is not None:
            raise card.error
        return card.free, card.total

    def _start(self) -> None:
        if not self.cards:
            raise RuntimeError(self.start_error)
