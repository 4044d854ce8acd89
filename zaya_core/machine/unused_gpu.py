"""Why a card that is in this machine is not used, and what to do about it, in one sentence."""

from __future__ import annotations

import os
import re
import sys
import warnings

import torch

from zaya_core.machine.gpu_hardware import GpuHardware, gpu_hardware, has_wsl_library, is_wsl
from zaya_core.machine.gpus import first_line, gpu_for, pytorch_build, visible_gpus

_HIDING = {
    "NVIDIA": ("CUDA_VISIBLE_DEVICES",),
    "AMD": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
}
_TOO_OLD = re.compile(r"driver on your system is too old \(found version (\d+)\)")  # 12020 is CUDA 12.2
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
    if hardware.absent is not None:
        return (
            f"{hardware.absent} is missing: start the container with `--gpus all`, or outside of one type "
            "`sudo nvidia-modprobe -c 0 -u`"
        )
    if hardware.has_driver:
        return None
    if hardware.maker == "AMD":
        return (
            "its driver offers no computing (/dev/kfd is missing): load amdgpu, or start the container with "
            "`--device /dev/kfd --device /dev/dri`"
        )
    return "its driver is not loaded: install NVIDIA's driver and restart, until `nvidia-smi` lists the card"


def _why_not_started(hardware: GpuHardware) -> str:
    """What the driver, or PyTorch, answers."""
    error = _error_at_start()
    if error is not None and (found := _TOO_OLD.search(error)) is not None:
        knows = f"{int(found[1]) // 1000}.{int(found[1]) % 1000 // 10}"
        where = " in Windows" if is_wsl() else ""
        return (
            f"its driver knows CUDA {knows} at most, and this PyTorch ({torch.__version__}) needs "
            f"{torch.version.cuda}: update the driver{where}, or install PyTorch's build for an older CUDA"
        )
    hiding = next((name for name in _HIDING[hardware.maker] if name in os.environ), None)
    if error is None or _NONE_THERE.search(error):
        if hiding is not None:
            return f"{hiding}={os.environ[hiding]!r} hides it: unset {hiding}, or name a card that is there"
        return _why_not_listed(hardware)
    restart = "type `wsl --shutdown` in Windows" if is_wsl() else "restart the machine"
    return f"its driver fails ({error}): {restart}, or update the driver{' in Windows' if is_wsl() else ''}"


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
        return first_line(error)
    return None
