"""Where a model runs and in which dtype: decided once, with the reason in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from zaya_core.errors import DeviceError, UsageError
from zaya_core.machine.gpu_notes import notes_of
from zaya_core.machine.gpus import BFLOAT16_SINCE, Gpu, gpu_for, visible_gpus
from zaya_core.machine.unused_gpu import hiding_variable, unused_gpu

_FLOAT16 = (
    "float16 is not offered: ZAYA's residual stream and its down projections reach values that float16 cannot hold "
    "(above 65,504), and the output collapses. Use bfloat16 or float32."
)
_INSTEAD = "computing on the CPU: {} (--device cpu accepts it)."
_CARD = re.compile("cuda(:(0|[1-9][0-9]{0,2}))?")


@dataclass(frozen=True)
class Speeds:
    """Tokens per second of a model on the CPU and on a card. failure: why the card computes nothing."""

    cpu: float
    gpu: float
    failure: str | None = None


Compare = Callable[[Gpu], Speeds | None]  # None: nothing is known, and the card is taken
Refuse = Callable[[Gpu], str | None]  # why a card cannot take a model, None where it can


@dataclass(frozen=True)
class DeviceChoice:
    """A device, why, and what a person should be told about it at the start: sentences with a full stop."""

    device: torch.device
    reason: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Placement:
    """Device and dtype of a model, and why."""

    device: torch.device
    dtype: torch.dtype
    reason: str


def choose_device(
    name: str, compare: Compare = lambda gpu: None, refuse: Refuse = lambda gpu: None, or_cpu: bool = True
) -> DeviceChoice:
    """The device that "auto", "cpu", "cuda" or "cuda:N" means on this machine.

    "cuda" is the card that suits best, of those that `refuse` has nothing against if there are any; "auto" is that
    card, or the CPU where there is none, where none can be used, where `compare` says that the CPU is faster, and with
    `or_cpu` where `refuse` has a reason.
    Raises: DeviceError for a card that is not there or cannot be used; UsageError for another name.
    """
    if name == "cpu":
        return DeviceChoice(torch.device("cpu"), "cpu: asked for")
    if name != "auto" and _CARD.fullmatch(name) is None:
        raise UsageError(
            f"device {name!r} is not offered: use auto, cpu, cuda or cuda:N (NVIDIA, and AMD with a ROCm PyTorch)."
        )
    gpus, refuse = visible_gpus(name), cache(refuse)
    gpu = gpu_for(name, gpus, lambda gpu: refuse(gpu) is None)
    if gpu is not None and name != "auto":
        return _card(gpu, gpus[0])
    if gpu is not None:
        why = refuse(gpu) if or_cpu else None
        return _card_or_cpu(gpu, gpus[0], compare) if why is None else _cpu(why, _INSTEAD.format(why))
    if name != "auto":
        raise DeviceError(f"device {name!r} was asked for, but {_why_missing(name, gpus)}, or use --device cpu.")
    why = unused_gpu()
    return _cpu(f"this PyTorch ({torch.__version__}) sees no GPU") if why is None else _cpu_after_all(why)


def _card_or_cpu(gpu: Gpu, first: Gpu, compare: Compare) -> DeviceChoice:
    """For "auto", of a card with room."""
    speeds = compare(gpu)
    if speeds is not None and speeds.failure is not None:
        return _cpu_after_all(f"{gpu.label} failed at a trial ({speeds.failure})")
    if speeds is not None and speeds.cpu > speeds.gpu:
        rates = f"{speeds.cpu:.1f} against {speeds.gpu:.1f} tokens/s, estimated with a twentieth of ZAYA1-8B"
        why = f"it is faster here than {gpu.label} ({rates})"
        return _cpu(why, f"computing on the CPU: {why}; --device cuda takes the card.")
    return _card(gpu, first)


def _card(gpu: Gpu, first: Gpu) -> DeviceChoice:
    """first: of those that were meant, what a person may have expected."""
    platform = "ROCm" if torch.version.hip else "CUDA"
    notes = [f"{note.text}." for note in notes_of(gpu) if note.is_said_at_start]
    if first.index != gpu.index:
        why = _why_not(first, gpu)
        notes.insert(
            0, f"computing on {gpu.label}, not on {first.label}, because {why}; --device cuda:N takes another."
        )
    return DeviceChoice(torch.device("cuda", gpu.index), f"cuda:{gpu.index}: {gpu.name} ({platform})", tuple(notes))


def _why_not(other: Gpu, taken: Gpu) -> str:
    if other.problem is not None:
        return other.problem
    if other.is_integrated and not taken.is_integrated:
        return "that is integrated"
    return "that has less free memory" if other.free_memory < taken.free_memory else "that has no bfloat16"


def _why_missing(name: str, gpus: Sequence[Gpu]) -> str:
    """gpus: that the name may mean, none of which can be used."""
    if gpus and ":" in name:
        return f"{gpus[0].label} cannot be used, because {gpus[0].problem}"
    if ":" in name and (others := visible_gpus()):
        hiding = hiding_variable("AMD" if torch.version.hip else "NVIDIA")
        seen = f"PyTorch sees {len(others)} GPU{'s' * (len(others) > 1)}{f' with {hiding}' if hiding else ''}"
        return f"{seen}, counted from 0: name {' or '.join(gpu.label for gpu in others)}"
    return unused_gpu() or f"this PyTorch ({torch.__version__}) sees no GPU: install its CUDA or ROCm build"


def _cpu(why: str, *notes: str) -> DeviceChoice:
    return DeviceChoice(torch.device("cpu"), f"cpu: {why}", notes)


def _cpu_after_all(why: str) -> DeviceChoice:
    """Never silently where there is a card."""
    return _cpu(why, f"computing on the CPU: {why} (see `zaya doctor`; --device cpu accepts it).")


def choose_placement(device: str | DeviceChoice, dtype: str | torch.dtype, stored: torch.dtype) -> Placement:
    """Pick where to run. `stored` is the dtype of the checkpoint, taken by dtype "auto".

    Raises: as `choose_device`; UsageError for a dtype that is not offered.
    """
    choice = choose_device(device) if isinstance(device, str) else device
    return Placement(choice.device, *_choose_dtype(choice, dtype, stored))


def _choose_dtype(choice: DeviceChoice, dtype: str | torch.dtype, stored: torch.dtype) -> tuple[torch.dtype, str]:
    name, device, reason = str(dtype).removeprefix("torch."), choice.device, choice.reason
    if name in ("float16", "half", "fp16"):
        raise UsageError(_FLOAT16)
    if name not in ("auto", "bfloat16", "bf16", "float32", "fp32"):
        raise UsageError(f"dtype {name!r} is not offered: use auto, bfloat16 or float32.")
    if name in ("float32", "fp32"):
        return torch.float32, f"{reason}; float32: asked for"
    if device.type == "cuda" and not torch.version.hip and torch.cuda.get_device_capability(device) < BFLOAT16_SINCE:
        return torch.float32, f"{reason}; float32: this card has no bfloat16 arithmetic (compute capability below 8.0)"
    if name == "auto":
        return stored, f"{reason}; {str(stored).removeprefix('torch.')}: as stored"
    return torch.bfloat16, f"{reason}; bfloat16: asked for"
