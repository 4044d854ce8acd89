"""Why a card that is in this machine is not used, and what to do about it, in one sentence."""

from __future__ import annotations

import os
import re
import sys
import warnings

import torch

from zaya_core.machine.gpu_hardware import GpuHardware, Maker, amd_architectures, gpu_hardware, has_wsl_library, is_wsl
from zaya_core.machine.gpu_kernels import is_supported_by_rocm
from zaya_core.machine.gpus import first_line, gpu_for, pytorch_build, visible_gpus

_HIDING: dict[Maker, tuple[str, ...]] = {
    "NVIDIA": ("CUDA_VISIBLE_DEVICES",),
    "AMD": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
}
_LOAD_AMD = "load amdgpu, or start the container with `--device /dev/kfd --device /dev/dri`"
_TOO_OLD = re.compile(r"driver on your system is too old \(found version (\d+)\)")  # 12020 is CUDA 12.2
_NUMBERED = re.compile(r"\bError \d+: .*")  # what the driver itself says, behind PyTorch's guesses
_NONE_THERE = re.compile(r"No (CUDA|HIP) GPUs are available|no CUDA-capable device|no ROCm-capable device")


def unused_gpu() -> str | None:
    """Why no card of this machine can be used, and what to do; None where there is none, or one can be used."""
    gpus = visible_gpus()
    if gpu_for("auto", gpus) is not None:
        return None
    if gpus:
        return f"{gpus[0].label} cannot be used, because {gpus[0].problem}"
    found = sorted(gpu_hardware(), key=lambda one: (not _is_built_for(one), one.maker != "NVIDIA"))
    return _why_unseen(found[0]) if found else None


def hiding_variable(maker: Maker) -> str | None:
    """The variable that says which cards a program may see, with its value; None where none is set."""
    return next((f"{name}={os.environ[name]!r}" for name in _HIDING[maker] if name in os.environ), None)


def wsl_without_driver() -> str | None:
    """What a WSL needs for an NVIDIA card, where it is missing; it shows nothing of the cards themselves."""
    if not is_wsl() or has_wsl_library():
        return None
    return (
        "this is WSL, whose drivers come from Windows, and there is none for CUDA (/usr/lib/wsl/lib/libcuda.so): for "
        "an NVIDIA card install NVIDIA's driver in Windows, none in WSL, and type `wsl --shutdown` there"
    )


def _is_built_for(hardware: GpuHardware) -> bool:
    return bool(torch.version.cuda if hardware.maker == "NVIDIA" else torch.version.hip)


def _why_unseen(hardware: GpuHardware) -> str:
    machine = f"this machine has an {hardware.maker} GPU"
    if not _is_built_for(hardware):
        wanted = "CUDA" if hardware.maker == "NVIDIA" else "ROCm"
        built = f"this PyTorch ({torch.__version__}) is built for {pytorch_build()}"
        architectures = amd_architectures() if hardware.maker == "AMD" else []
        if architectures and not any(map(is_supported_by_rocm, architectures)):
            old = f"ROCm supports neither RDNA2 nor older cards officially, and this is {', '.join(architectures)}"
            return f"{machine}, but {built}: its ROCm build may work or not, since {old}"
        return f"{machine}, but {built}: install its {wanted} build"
    return f"{machine}, but {_why_closed(hardware) or _why_not_started(hardware)}"


def _why_closed(hardware: GpuHardware) -> str | None:
    """What is wrong with the driver's files."""
    if hardware.closed is not None:
        if hardware.maker == "AMD":
            return (
                f"you may not open {hardware.closed}: type `sudo usermod -aG render,video $USER`, log out and in again"
            )
        return f"you may not open {hardware.closed}: ask for access to it, or join its group"
    if hardware.absent is not None and hardware.maker == "AMD":
        return f"{hardware.absent} is missing: {_LOAD_AMD}"
    if hardware.absent is not None:
        return (
            f"{hardware.absent} is missing: start the container with `--gpus all`, or outside of one type "
            "`sudo nvidia-modprobe -c 0 -u`"
        )
    if hardware.has_driver:
        return None
    if hardware.maker == "AMD":
        return f"its driver offers no computing (/dev/kfd is missing): {_LOAD_AMD}"
    return "its driver is not loaded: install NVIDIA's driver and restart, until `nvidia-smi` lists the card"


def _why_not_started(hardware: GpuHardware) -> str:
    """What the driver, or PyTorch, answers."""
    error = _error_at_start()
    if error is not None and (known := _why_of_driver(error)) is not None:
        return known
    if error is not None and _NONE_THERE.search(error) is None:
        restart = "type `wsl --shutdown` in Windows" if is_wsl() else "restart the machine"
        return f"its driver fails ({error}): {restart}, or update the driver{_in_windows()}"
    hiding = hiding_variable(hardware.maker)
    return (
        _why_not_listed(hardware) if hiding is None else f"{hiding} hides it: unset that, or name a card that is there"
    )


def _why_of_driver(error: str) -> str | None:
    if (found := _TOO_OLD.search(error)) is not None:
        knows = f"{int(found[1]) // 1000}.{int(found[1]) % 1000 // 10}"
        return (
            f"its driver knows CUDA {knows} at most, and this PyTorch ({torch.__version__}) needs "
            f"{torch.version.cuda}: update the driver{_in_windows()}, or install PyTorch's build for an older CUDA"
        )
    if "Found no NVIDIA driver" in error:
        return (
            "its driver has no CUDA library (libcuda.so): install NVIDIA's driver whole, or start the container with "
            "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        )
    return None


def _in_windows() -> str:
    return " in Windows" if is_wsl() else ""


def _why_not_listed(hardware: GpuHardware) -> str:
    unseen = f"this PyTorch ({pytorch_build()}) does not see it"
    if hardware.maker == "AMD":
        lister = "hipInfo" if sys.platform == "win32" else "rocminfo"
        return f"{unseen}: where `{lister}` does not list it, the card or its driver is too old for ROCm"
    if is_wsl():
        return f"{unseen}: the driver of this WSL comes from Windows, update it there, and remove any installed in WSL"
    return f"{unseen}: `nvidia-smi -L` must list it, and with MIG on, a slice of it"


def _error_at_start() -> str | None:
    """What PyTorch says when it is to start a card."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.cuda.init()
    except Exception as error:
        said = first_line(error)
        return said if (found := _NUMBERED.search(said)) is None else found[0]
    return None
