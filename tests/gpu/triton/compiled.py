"""Launches compiled for cards that are not here, and what the compiler made of them.

A process without TRITON_INTERPRET: `python -m tests.gpu.triton.compiled sm_86` prints one `Report` a line as JSON.
Types, alignment and constants are those that Triton itself finds in a launch's arguments, which are tensors of the
device "meta": of any size, without memory.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

_CUDA = ("sm_80", "sm_86", "sm_89", "sm_90", "sm_120")
_WAVES = {"gfx1100": 32, "gfx1101": 32, "gfx1151": 32, "gfx1200": 32, "gfx1201": 32, "gfx942": 64}  # lanes
TARGETS = (*_CUDA, *_WAVES)


@dataclass(frozen=True)
class Report:
    """Of one kernel for one target.

    registers: of a thread. spilled: bytes of a thread that went to memory. shared: bytes of a program. loads: global
    loads by the bits that a thread loads at once. instructions: all that the kernel has, in loops or not. operations:
    the commonest ones.
    """

    case: str
    target: str
    registers: int
    spilled: int
    shared: int
    loads: Mapping[int, int]
    instructions: int
    operations: Mapping[str, int]


def compiled(launch: Any, target: str) -> Any:
    """Triton's kernel of a launch, as a card of this kind would compile it."""
    from triton.runtime import driver

    with mock.patch.object(driver, "_active", _Nowhere(target)):
        return launch.kernel.run(
            *launch.arguments, grid=launch.grid, warmup=True, **launch.options, enable_fp_fusion=True
        )


class _Nowhere:
    """A driver that names a target and has no card. Each target is a device of its own, or kernels would be shared."""

    def __init__(self, target: str):
        from triton.backends.compiler import GPUTarget

        is_cuda = target.startswith("sm_")
        self.target = target
        self._gpu = GPUTarget("cuda", int(target[3:]), 32) if is_cuda else GPUTarget("hip", target, _WAVES[target])

    def get_current_device(self) -> str:
        return self.target

    def get_current_stream(self, device: str) -> int:
        return 0

    def get_current_target(self) -> Any:
        return self._gpu


def report(case: str, target: str, kernel: Any) -> Report:
    """What the compiler made."""
    read = _of_cuda if target.startswith("sm_") else _of_amd
    return Report(case, target, shared=kernel.metadata.shared, **read(kernel))


def _of_cuda(kernel: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "kernel.cubin")
        binary.write_bytes(kernel.asm["cubin"])
        usage = _tool("cuobjdump", "-res-usage", binary)
        listing = _tool("nvdisasm", "-c", binary)
    found = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", usage)
    assert found, usage
    names = re.findall(r"^\s*/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)", listing, re.M)
    loads = Counter(_bits_of_cuda(name) for name in names if name.startswith("LDG"))
    return {
        "registers": int(found[1]),
        "spilled": int(found[2]) + int(found[3]),
        "loads": dict(loads),
        "instructions": len(names),
        "operations": dict(Counter(name.partition(".")[0] for name in names).most_common(12)),
    }


def _bits_of_cuda(name: str) -> int:
    parts = name.split(".")
    return next((bits for bits in (128, 64, 16, 8) if {str(bits), f"U{bits}", f"S{bits}"} & set(parts)), 32)


def _tool(name: str, *arguments: str | Path) -> str:
    import triton

    program = Path(triton.__file__).parent / "backends/nvidia/bin" / name
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


_AMD_BITS = {"b128": 128, "dwordx4": 128, "b96": 96, "dwordx3": 96, "b64": 64, "dwordx2": 64, "b32": 32, "dword": 32}


def _of_amd(kernel: Any) -> dict[str, Any]:
    text = kernel.asm["amdgcn"]
    counted = {name: int(number) for name, number in re.findall(r"\.(\w+):\s+(\d+)", text)}
    names = re.findall(r"^\t([sv]_\w+|global_\w+|buffer_\w+|ds_\w+|scratch_\w+|flat_\w+)", text, re.M)
    loads = Counter(
        _AMD_BITS.get(name.partition("load_")[2], 16) for name in names if re.match("(global|buffer|flat)_load", name)
    )
    return {
        "registers": counted["vgpr_count"],
        "spilled": 4 * counted["vgpr_spill_count"] + counted["private_segment_fixed_size"],
        "loads": dict(loads),
        "instructions": len(names),
        "operations": dict(Counter(names).most_common(12)),
    }


def reports(target: str, is_wanted: Callable[[str], bool]) -> Iterator[Report]:
    """Of all cases with a wanted name."""
    from tests.gpu.triton.cases import launches

    for case, launch in launches(target):
        if is_wanted(case):
            yield report(case, target, compiled(launch, target))


def main() -> None:
    """Targets, none for all of them; "usual" leaves rare cases out; other words: what a case's name has to have."""
    from tests.gpu.triton.cases import is_usual

    words = [word for word in sys.argv[1:] if word not in TARGETS]
    for target in [word for word in sys.argv[1:] if word in TARGETS] or TARGETS:
        for one in reports(
            target, lambda case: all(is_usual(case) if word == "usual" else word in case for word in words)
        ):
            print(json.dumps(asdict(one)), flush=True)


if __name__ == "__main__":
    main()
