"""What is worth knowing of a card that can be used: what is so, and what to do, in one sentence each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from zaya_core.machine.gpu_hardware import amd_architectures, gfx_overrides, is_wsl
from zaya_core.machine.gpu_kernels import is_supported_by_rocm
from zaya_core.machine.gpus import Gpu
from zaya_core.machine.watchdog import SHORT_CHUNK, has_watchdog


@dataclass(frozen=True)
class GpuNote:
    """A sentence without its full stop. is_said_at_start: it changes what is computed, or how fast."""

    text: str
    is_said_at_start: bool


def notes_of(gpu: Gpu) -> list[GpuNote]:
    """Of one card."""
    return [*_of_arithmetic(gpu), *_of_rocm(gpu), *_of_memory(gpu), *_of_system(gpu)]


def _of_arithmetic(gpu: Gpu) -> Iterator[GpuNote]:
    if not gpu.has_bfloat16 and gpu.capability is not None:
        version = ".".join(map(str, gpu.capability))
        text = (
            f"{gpu.label} computes in float32, which takes twice the memory and is slower, because NVIDIA cards before"
        )
        yield GpuNote(f"{text} Ampere (compute capability {version}) have no bfloat16: take an int4 model", True)


def _of_rocm(gpu: Gpu) -> Iterator[GpuNote]:
    overrides = gfx_overrides()
    if gpu.gfx is not None and overrides and gpu.gfx not in amd_architectures():
        text = f"{gpu.label} reports {gpu.gfx} because {overrides[0]} is set, and results may be wrong"
        yield GpuNote(f"{text}: unset it if ROCm supports the card", True)
    elif gpu.gfx is not None and not is_supported_by_rocm(gpu.gfx):
        text = f"{gpu.label} is {gpu.gfx}, and ROCm supports neither RDNA2 nor older cards officially"
        yield GpuNote(f"{text}: it may work; if answers are wrong, use --device cpu", True)


def _of_memory(gpu: Gpu) -> Iterator[GpuNote]:
    if gpu.shares_memory:
        text = f"{gpu.label} has no memory of its own, it takes main memory"
        yield GpuNote(f"{text}: what is free is counted once, close other programs for more", False)


def _of_system(gpu: Gpu) -> Iterator[GpuNote]:
    if has_watchdog(torch.device("cuda", gpu.index)):
        where = "WSL" if is_wsl() else "Windows"
        text = (
            f"{where} stops a card that is busy for 2 seconds, so prompts go to {gpu.label} in pieces of {SHORT_CHUNK}"
        )
        yield GpuNote(f"{text} tokens: nothing to do", False)
    if sys.platform == "linux" and is_wsl():
        yield GpuNote("this is WSL, whose driver comes from Windows: update it there, install none here", False)
