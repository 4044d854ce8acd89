"""Windows stops a card whose kernel takes longer than two seconds, with all that the program has there."""

from __future__ import annotations

import sys

import torch

from zaya_core.machine.gpu_hardware import is_wsl

SHORT_CHUNK = 256  # prompt tokens; some hundred milliseconds of one layer at most on slow cards


def has_watchdog(device: torch.device) -> bool:
    """Whether the system ends what keeps the device busy: cards of Windows, also seen from its WSL."""
    return device.type == "cuda" and (sys.platform == "win32" or is_wsl())


def prefill_chunk(device: torch.device, usual: int) -> int:
    """Prompt tokens of one pass on a device: `usual`, or fewer where long kernels are not safe."""
    return min(usual, SHORT_CHUNK) if has_watchdog(device) else usual
