"""What the system says of its cards, found without PyTorch."""

from __future__ import annotations

import pytest

from tests.core.machine.simulated import AMD, AMD_LINUX, NVIDIA, NVIDIA_LINUX, WSL, WSL_NVIDIA, Machine, kfd
from zaya_core.machine.gpu_hardware import GpuHardware, amd_architectures, gpu_hardware, is_wsl

INTEL = "0x8086"
SYSTEM32 = "Windows/System32/"


@pytest.mark.parametrize(
    ("machine", "found"),
    [
        (Machine(), []),
        (Machine(pci=(INTEL,)), []),
        (Machine(pci=(AMD, NVIDIA), files=NVIDIA_LINUX), [GpuHardware("AMD", False), GpuHardware("NVIDIA", True)]),
        (Machine(files=NVIDIA_LINUX), [GpuHardware("NVIDIA", True)]),
        (Machine(files={"dev/nvidiactl": ""}), [GpuHardware("NVIDIA", True)]),
        (Machine(files={"dev/nvgpu/igpu0/ctrl": ""}), [GpuHardware("NVIDIA", True)]),
        (Machine(files=WSL_NVIDIA), [GpuHardware("NVIDIA", True)]),
        (Machine(files=WSL), []),
        (Machine(files=NVIDIA_LINUX, closed=("dev/nvidiactl",)), [GpuHardware("NVIDIA", True, None, "/dev/nvidiactl")]),
        (
            Machine(files={"proc/driver/nvidia/version": ""}, pci=(NVIDIA,)),
            [GpuHardware("NVIDIA", True, absent="/dev/nvidiactl")],
        ),
        (Machine(files=AMD_LINUX), []),
        (Machine(files=AMD_LINUX, pci=(AMD, AMD)), [GpuHardware("AMD", True)]),
        (Machine(files={"dev/kfd": ""}, pci=(AMD,)), [GpuHardware("AMD", True, absent="/dev/dri")]),
        (Machine(files=AMD_LINUX, pci=(AMD,), closed=("dev/kfd",)), [GpuHardware("AMD", True, None, "/dev/kfd")]),
        (
            Machine(files=AMD_LINUX | {"dev/dri/renderD129": ""}, pci=(AMD,), closed=("dev/dri/renderD129",)),
            [GpuHardware("AMD", True)],
        ),
        (Machine("win32", {f"{SYSTEM32}nvcuda.dll": ""}), [GpuHardware("NVIDIA", True)]),
        (Machine("win32", {f"{SYSTEM32}amdhip64.dll": ""}), [GpuHardware("AMD", True)]),
        (Machine("win32", {f"{SYSTEM32}amdhip64_7.dll": ""}), [GpuHardware("AMD", True)]),
        (Machine("win32", {f"{SYSTEM32}opengl32.dll": ""}), []),
        (Machine("darwin", {}), []),
    ],
)
def test_cards_and_their_drivers_are_found(monkeypatch, tmp_path, machine, found):
    machine.enter(monkeypatch, tmp_path)
    assert gpu_hardware() == found


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ((), []),
        ((0,), []),
        ((0, 90012, 100301, 110003), ["gfx90c", "gfx1031", "gfx1103"]),
        ((90402, 90010, 120001), ["gfx942", "gfx90a", "gfx1201"]),
    ],
)
def test_architectures_are_those_that_the_driver_knows(monkeypatch, tmp_path, versions, found):
    Machine(files=kfd(*versions)).enter(monkeypatch, tmp_path)
    assert amd_architectures() == found


@pytest.mark.parametrize("kind", ["0x020000", "0x060400", ""])
def test_what_is_no_display_is_no_card(monkeypatch, tmp_path, kind):
    Machine(pci=(NVIDIA,)).enter(monkeypatch, tmp_path)
    (tmp_path / "sys/bus/pci/devices/0/class").write_text(kind)
    assert gpu_hardware() == []


def test_an_accelerator_without_a_display_is_a_card(monkeypatch, tmp_path):
    Machine(pci=(AMD,)).enter(monkeypatch, tmp_path)
    (tmp_path / "sys/bus/pci/devices/0/class").write_text("0x120000\n")
    assert gpu_hardware() == [GpuHardware("AMD", False)]


def test_a_device_that_cannot_be_read_is_no_card(monkeypatch, tmp_path):
    Machine(pci=(NVIDIA, AMD)).enter(monkeypatch, tmp_path)
    (tmp_path / "sys/bus/pci/devices/0/vendor").unlink()
    assert gpu_hardware() == [GpuHardware("AMD", False)]


@pytest.mark.parametrize(
    ("machine", "expected"),
    [(Machine(), False), (Machine(files=WSL), True), (Machine(files={}), False), (Machine("win32", WSL), False)],
)
def test_linux_inside_windows_is_told_by_its_kernel(monkeypatch, tmp_path, machine, expected):
    machine.enter(monkeypatch, tmp_path)
    assert is_wsl() is expected
