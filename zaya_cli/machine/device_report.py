"""What `zaya doctor` says of devices: PyTorch's build, each card with what to do about it, and what is computed on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zaya_cli.machine.threads import default_threads
from zaya_cli.sizes import gigabytes
from zaya_core.errors import ZayaError
from zaya_core.measure.checkup.finding import Finding

if TYPE_CHECKING:
    import torch

    from zaya_core.machine.gpus import Gpu

_DOCS = "docs/install.md says more"


def device_findings(device: str) -> Iterator[Finding]:
    """device: "auto", "cpu", "cuda" or "cuda:N", as `--device` has it."""
    try:
        import torch
    except Exception as error:  # also a damaged installation, which raises OSError and others
        yield Finding("device", f"PyTorch cannot be imported ({error}): install it again, see the README", "problem")
        return
    from zaya_core.machine.device import choose_device
    from zaya_core.machine.gpus import pytorch_build, visible_gpus
    from zaya_core.machine.unused_gpu import unused_gpu, wsl_without_driver

    yield Finding("PyTorch", f"{torch.__version__}, built for {pytorch_build()}")
    gpus = visible_gpus()
    for gpu in gpus:
        yield from _of_card(gpu)
    if not gpus and (reason := unused_gpu() or wsl_without_driver()) is not None:
        yield Finding("GPU", f"not used: {reason} ({_DOCS})", "note")
    elif not gpus:
        yield Finding("GPU", "none found")
    try:
        yield Finding("device", choose_device(device).reason)
    except ZayaError as error:
        yield Finding("device", str(error), "problem")
        return
    if device == "auto":
        yield from _measured(gpus)


def card_in_use(device: str) -> torch.device | None:
    """The card that a device's name means here; None where the CPU computes, or nothing."""
    from zaya_core.machine.device import choose_device

    try:
        chosen = choose_device(device).device
    except ZayaError:
        return None
    return None if chosen.type == "cpu" else chosen


def _of_card(gpu: Gpu) -> Iterator[Finding]:
    from zaya_core.machine.gpu_notes import notes_of

    if gpu.problem is not None:
        yield Finding("GPU", f"{gpu.label} cannot be used, because {gpu.problem} ({_DOCS})", "note")
        return
    kind = gpu.gfx or f"compute capability {'.'.join(map(str, gpu.capability or ()))}"
    numbers = f"{gigabytes(gpu.total_memory)}, {gigabytes(gpu.free_memory)} free"
    yield Finding("GPU", f"{gpu.label}, {numbers}, {kind}{', integrated' * gpu.is_integrated}")
    for note in notes_of(gpu):
        yield Finding("GPU", note.text, "note" if note.is_said_at_start else "ok")


def _measured(gpus: list[Gpu]) -> Iterator[Finding]:
    """What was found when a model of a format was first loaded, and what is computed on since."""
    from zaya_cli.machine.speeds import SpeedRecord
    from zaya_core.machine.gpus import gpu_for

    if (gpu := gpu_for("auto", gpus)) is None:
        return
    for trial, speeds in SpeedRecord(gpu, default_threads()).kept().items():
        taken = "the CPU" if speeds.cpu > speeds.gpu else gpu.label
        rates = f"CPU {speeds.cpu:.1f}, {gpu.label} {speeds.gpu:.1f} tokens/s"
        yield Finding("device", f"{trial}: {rates} (measured), so auto takes {taken}")
