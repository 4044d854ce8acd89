"""What keeps Triton from compiling for a card is said in one exact sentence, and what to type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import zaya_core
from tests.core.machine.simulated import AMD, AMD_LINUX, HOST_LINUX, NVIDIA, NVIDIA_LINUX, Card, Machine
from zaya_core.machine.gpus import visible_gpus
from zaya_core.machine.triton_support import cache_in_use, why_no_triton

DEMO = Path(zaya_core.__file__).parent / "bundled" / "demo"
GEFORCE, RADEON = Card("GeForce RTX 3060"), Card("Radeon RX 7900 XTX", gfx="gfx1100")
TRITON = "Triton, which compiles them, is not installed"
HEADERS = "Python's headers (Python.h), which Triton needs, are missing"
COMPILER = "a C compiler, which Triton needs, is missing"


def nvidia(card: Card = GEFORCE, **changes: Any) -> Machine:
    whole: dict[str, Any] = {"files": HOST_LINUX | NVIDIA_LINUX, "pci": (NVIDIA,), "cuda": "13.0", "cards": (card,)}
    return Machine(**(whole | changes))


def amd(card: Card = RADEON, **changes: Any) -> Machine:
    return nvidia(card, **({"files": HOST_LINUX | AMD_LINUX, "pci": (AMD,), "cuda": None, "hip": "7.1"} | changes))


MACHINES = {
    "all is there": (nvidia(), None),
    "RDNA3": (amd(), None),
    "MI300X": (amd(Card("MI300X", gfx="gfx942")), None),
    "clang alone": (nvidia(programs=("clang",)), None),
    "CC": (nvidia(programs=("mycc",), environment={"CC": "mycc"}), None),
    "PyTorch for CPUs": (
        nvidia(cuda=None),
        f"this PyTorch ({torch.__version__}) is built for CPUs only",
    ),
    "Turing": (
        nvidia(Card("GTX 1660", capability=(7, 5))),
        "Triton supports NVIDIA cards from compute capability 8.0 on, and this has 7.5: nothing to do",
    ),
    "RDNA2": (
        amd(Card("Radeon RX 6800", gfx="gfx1030")),
        "Triton supports neither RDNA2 nor older cards, and this is gfx1030: nothing to do",
    ),
    "the interpreter": (
        nvidia(environment={"TRITON_INTERPRET": "1"}),
        "TRITON_INTERPRET makes Triton compute on the CPU: unset it",
    ),
    "no Triton": (nvidia(has_triton=False), f"{TRITON}: type `pip install triton==3.7.1`"),
    "no Triton, ROCm": (
        amd(has_triton=False),
        f"{TRITON}: install PyTorch's ROCm build again, which brings it along",
    ),
    "no Triton, Windows": (
        nvidia(platform="win32", files={}, has_triton=False, programs=(), has_headers=False),
        f"{TRITON}: type `pip install triton-windows`",
    ),
    "Windows brings a compiler": (nvidia(platform="win32", files={}, programs=(), has_headers=False), None),
    "no Triton, another system": (
        nvidia(platform="freebsd", has_triton=False),
        f"{TRITON}, and there is none for this system: nothing to do",
    ),
    "no compiler, Debian": (nvidia(programs=("apt",)), f"{COMPILER}: type `sudo apt install gcc`"),
    "no compiler, Fedora": (nvidia(programs=("dnf",)), f"{COMPILER}: type `sudo dnf install gcc`"),
    "no compiler, Arch": (nvidia(programs=("pacman",)), f"{COMPILER}: type `sudo pacman -S gcc`"),
    "no compiler, unknown": (nvidia(programs=()), f"{COMPILER}: install gcc"),
    "CC names nothing": (
        nvidia(environment={"CC": "/opt/cc"}),
        "Triton compiles with CC=/opt/cc, and there is no such program: unset CC, or let it name a C compiler",
    ),
    "no headers, Debian": (nvidia(has_headers=False), f"{HEADERS}: type `sudo apt install python3.11-dev`"),
    "no headers, Fedora": (
        nvidia(has_headers=False, programs=("gcc", "dnf")),
        f"{HEADERS}: type `sudo dnf install python3-devel`",
    ),
    "no headers, openSUSE": (
        nvidia(has_headers=False, programs=("gcc", "zypper")),
        f"{HEADERS}: type `sudo zypper install python311-devel`",
    ),
    "no headers, unknown": (
        nvidia(has_headers=False, programs=("gcc",)),
        f"{HEADERS}: install the development files of this Python",
    ),
    "neither": (
        amd(has_headers=False, programs=("apt",)),
        "a C compiler and Python's headers (Python.h), which Triton needs, are missing: type `sudo apt install gcc "
        "python3.11-dev`",
    ),
}


@pytest.fixture
def entered(monkeypatch, tmp_path):
    def enter(machine):
        machine.enter(monkeypatch, tmp_path / "root")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        return visible_gpus()[0]

    return enter


@pytest.mark.parametrize(("machine", "sentence"), MACHINES.values(), ids=MACHINES)
def test_what_is_missing_is_said_with_what_to_type(entered, machine, sentence):
    assert why_no_triton(entered(machine)) == sentence


def test_headers_of_which_the_compiler_is_told_count(entered, monkeypatch, tmp_path):
    gpu = entered(nvidia(has_headers=False))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/Python.h").touch()
    monkeypatch.setenv("CPATH", f"/nowhere:{tmp_path / 'mine'}")
    assert why_no_triton(gpu) is None


def test_a_cache_of_tritons_that_cannot_be_written_is_replaced_by_ours(entered, monkeypatch, tmp_path):
    gpu = entered(nvidia())
    assert cache_in_use() == (tmp_path / "root/home/.triton/cache", None)
    named = tmp_path / "named"
    named.touch()
    monkeypatch.setenv("TRITON_CACHE_DIR", str(named))
    assert cache_in_use() == (tmp_path / "cache/zaya/triton", None)
    assert why_no_triton(gpu) is None
    (tmp_path / "cache").touch()
    assert why_no_triton(gpu) == (
        f"nothing can be written into {named} (Not a directory), nor into {tmp_path}/cache/zaya/triton: let "
        "TRITON_CACHE_DIR name a folder where it can be"
    )


def test_triton_itself_looks_for_a_compiler_and_headers_where_we_do():
    """What it compiles on the way is the same; a version that searches elsewhere shows here."""
    pytest.importorskip("triton")
    from triton.runtime import build

    source = Path(build.__file__).read_text(encoding="utf-8")
    for words in ('which("clang")', 'which("gcc")', "posix_prefix", '["include"]'):
        assert words in source


@pytest.mark.processes
def test_a_cpu_never_imports_triton():
    """It takes a second, and is 0.7 GB that a CPU has no use for."""
    code = (
        "import sys, zaya_cli.app, zaya_cli.runtime, zaya_cli.machine.kernels, zaya_core; "
        f"zaya_core.load_model({str(DEMO)!r}, device='cpu'); "
        "sys.exit('triton' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
