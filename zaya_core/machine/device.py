"""Where a model runs and in which dtype: decided once, with the reason in words."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from zaya_core.errors import DeviceError, UsageError
from zaya_core.machine.gpu_hardware import gpu_hardware

_FLOAT16 = (
    "float16 is not offered: ZAYA's residual stream and its down projections reach values that float16 cannot hold "
    "(above 65,504), and the output collapses. Use bfloat16 or float32."
)


@dataclass(frozen=True)
class Placement:
    """Device and dtype of a model, and why."""

    device: torch.device
    dtype: torch.dtype
    reason: str


@dataclass(frozen=True)
class Gpu:
    """A card that this PyTorch can compute on. Memory in bytes; `capability` is NVIDIA's, None on AMD."""

    name: str
    total_memory: int
    free_memory: int
    capability: tuple[int, int] | None


def visible_gpus() -> list[Gpu]:
    """In PyTorch's order. `free_memory` is what other programs have left."""
    gpus = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(index)
        capability = None if torch.version.hip else torch.cuda.get_device_capability(index)
        gpus.append(Gpu(torch.cuda.get_device_name(index), total, free, capability))
    return gpus


def pytorch_build() -> str:
    """What the installed PyTorch was built for, in words: CUDA 12.8, ROCm 6.4, or CPUs only."""
    if torch.version.hip:
        return f"ROCm {torch.version.hip}"
    return f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPUs only"


def unused_gpu() -> str | None:
    """Why a card of this machine cannot be used, and what to do; None where there is none, or PyTorch sees it."""
    if torch.cuda.is_available():
        return None
    for found in gpu_hardware():
        wanted, is_build = ("CUDA", torch.version.cuda) if found.maker == "NVIDIA" else ("ROCm", torch.version.hip)
        if not is_build:
            return (
                f"this machine has an {found.maker} GPU, but this PyTorch ({torch.__version__}) is built for "
                f"{pytorch_build()}: install its {wanted} build"
            )
        if not found.has_driver:
            return f"this machine has an {found.maker} GPU, but its driver is not loaded: install or load the driver"
        return (
            f"this machine has an {found.maker} GPU and a PyTorch for {pytorch_build()}, which does not see it: the "
            "driver may be older than PyTorch needs, the card unsupported or hidden (CUDA_VISIBLE_DEVICES, permissions)"
        )
    return None


def choose_placement(device: str, dtype: str | torch.dtype, stored: torch.dtype) -> Placement:
    """Pick where to run. `stored` is the dtype of the checkpoint, taken by dtype "auto".

    Raises: DeviceError for a device that is not there; UsageError for one, or a dtype, that is not offered.
    """
    chosen, reason = _choose_device(device)
    return Placement(chosen, *_choose_dtype(chosen, dtype, stored, reason))


def _choose_device(name: str) -> tuple[torch.device, str]:
    if name == "cpu":
        return torch.device("cpu"), "cpu: asked for"
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu"), f"cpu: this PyTorch ({torch.__version__}) sees no GPU"
    if name not in ("auto", "cuda") and not name.startswith("cuda:"):
        raise UsageError(
            f"device {name!r} is not offered: use auto, cpu or cuda (NVIDIA, and AMD with a ROCm PyTorch)."
        )
    if not torch.cuda.is_available():
        raise DeviceError(
            f"device {name!r} was asked for, but this PyTorch ({torch.__version__}) sees no GPU: install its CUDA or "
            "ROCm build, or use --device cpu."
        )
    device = torch.device("cuda" if name == "auto" else name)
    if device.index is not None and device.index >= torch.cuda.device_count():
        raise DeviceError(f"device {name!r} was asked for; there are {torch.cuda.device_count()} GPUs, counted from 0.")
    platform = "ROCm" if torch.version.hip else "CUDA"
    return device, f"{device}: {torch.cuda.get_device_name(device)} ({platform})"


def _choose_dtype(
    device: torch.device, dtype: str | torch.dtype, stored: torch.dtype, reason: str
) -> tuple[torch.dtype, str]:
    name = str(dtype).removeprefix("torch.")
    if name in ("float16", "half", "fp16"):
        raise UsageError(_FLOAT16)
    if name not in ("auto", "bfloat16", "bf16", "float32", "fp32"):
        raise UsageError(f"dtype {name!r} is not offered: use auto, bfloat16 or float32.")
    if name in ("float32", "fp32"):
        return torch.float32, f"{reason}; float32: asked for"
    if device.type == "cuda" and not torch.version.hip and torch.cuda.get_device_capability(device) < (8, 0):
        return torch.float32, f"{reason}; float32: this card has no bfloat16 arithmetic (compute capability below 8.0)"
    if name == "auto":
        return stored, f"{reason}; {str(stored).removeprefix('torch.')}: as stored"
    return torch.bfloat16, f"{reason}; bfloat16: asked for"
