"""How much memory this process uses and may use."""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import torch


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that was in use at once: on the GPU for a model there, else resident in this process.

    Pages of mapped weight files count as resident while they are.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if status.exists():  # getrusage also counts the parent's peak from before exec
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * unit
