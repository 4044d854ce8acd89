"""One check of a kernel against torch on the same device, and how a list of them is gone through."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zaya_core.machine.gpus import first_line
from zaya_core.machine.kernel_verdict import OUT_OF_MEMORY, KernelFailure
from zaya_core.measure.card_check.protocol import say_doing, say_unchecked


@dataclass(frozen=True)
class Check:
    """difference: computes something with a kernel and with torch on a device, and returns how much they differ, as a
    share of the largest number that is expected."""

    kernel: str
    difference: Callable[[torch.device], float]
    tolerance: float


@dataclass(frozen=True)
class Outcome:
    """Of a list of checks. worst: the largest difference of those that passed."""

    failed: tuple[KernelFailure, ...]
    worst: float


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """As a share of the largest number expected; infinite where shapes differ or a number is not finite."""
    if found.shape != expected.shape:
        return float("inf")
    found, expected = found.float(), expected.float()
    worst = float((found - expected).abs().max()) / max(1e-30, float(expected.abs().max()))
    return worst if worst == worst else float("inf")  # NaN is equal to nothing


def random(*shape: int, device: torch.device, seed: int = 0) -> Tensor:
    """Normal float32 numbers, the same on every device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


def whole(numbers: Iterable[int], device: torch.device) -> Tensor:
    """As kernels take positions and the like: int32."""
    return torch.tensor(list(numbers), dtype=torch.int32, device=device)


def outcome_of(checks: Sequence[Check], device: torch.device) -> Outcome | None:
    """Go through them, each announced before it begins. None where nothing is found out for want of memory, or of disk.

    After an error that leaves the device without an answer the rest is not tried.
    """
    failed: list[KernelFailure] = []
    worst = 0.0
    for check in checks:
        say_doing(check.kernel)
        try:
            difference = check.difference(device)
        except Exception as error:  # whatever a kernel or its compiler does wrong is what is asked for
            if is_for_want_of_room(error):
                say_unchecked(first_line(error))
                return None
            failed.append(KernelFailure(check.kernel, None, check.tolerance, named(error)))
            if not _still_answers(device):
                break
            continue
        if difference <= check.tolerance:
            worst = max(worst, difference)
        else:  # also NaN
            failed.append(KernelFailure(check.kernel, difference, check.tolerance))
    return Outcome(tuple(failed), worst)


def is_for_want_of_room(error: Exception) -> bool:
    """Whether memory is full, as PyTorch, Triton or a driver say it, or the system refuses something, as a disk."""
    return isinstance(error, MemoryError | OSError) or OUT_OF_MEMORY in str(error).lower()


def named(error: Exception) -> str:
    """Its kind, and what it says first."""
    return f"{type(error).__name__}: {first_line(error)}"


def _still_answers(device: torch.device) -> bool:
    """Not after a wrong address, which spoils all that this process has on the card."""
    try:
        return bool(torch.ones(1, device=device).item() == 1.0)
    except RuntimeError:
        return False
