"""What keeps a card from being used, or makes it another one, is said in one exact sentence, and what to do about it:
by `zaya doctor`, and at the start of `zaya run` and `zaya chat` where something else is computed than one would think.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import torch

from tests.core.machine.simulated import (
    AMD,
    AMD_LINUX,
    GB,
    HOST_LINUX,
    NVIDIA,
    NVIDIA_LINUX,
    WSL,
    WSL_NVIDIA,
    Card,
    Machine,
    kfd,
)
from zaya_cli.machine.device_report import device_findings
from zaya_cli.machine.hardware import memory_of
from zaya_core.errors import DeviceError, UsageError
from zaya_core.machine.device import choose_device

TORCH = torch.__version__
GEFORCE, RADEON = Card("GeForce RTX 3060"), Card("Radeon RX 7900 XTX", gfx="gfx1100")
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 12020). Please update your GPU driver by ..."
UNSUPPORTED = (
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() that "
    "might have already set an error? Error 804: forward compatibility was attempted on non supported HW\nhints"
)
SYSTEM32 = {"Windows/System32/kernel32.dll": ""}


def linux(*cards: Card, **changes: Any) -> Machine:
    """A Linux with an NVIDIA card, its driver and a PyTorch for CUDA 13.0, as far as `changes` says nothing else."""
    whole: dict[str, Any] = {"files": HOST_LINUX | NVIDIA_LINUX, "pci": (NVIDIA,), "cuda": "13.0", "cards": cards}
    return Machine(**(whole | changes))


def amd(*cards: Card, **changes: Any) -> Machine:
    """The same with an AMD card."""
    return linux(*cards, **({"files": HOST_LINUX | AMD_LINUX, "pci": (AMD,), "cuda": None, "hip": "7.1"} | changes))


# What of a machine, and the sentence: "not used" in doctor, "computing on the CPU" at the start.
UNUSED = {
    "NVIDIA, PyTorch for CPUs": (
        linux(cuda=None),
        f"this machine has an NVIDIA GPU, but this PyTorch ({TORCH}) is built for CPUs only: install its CUDA build",
    ),
    "AMD, PyTorch for CPUs": (
        amd(hip=None),
        f"this machine has an AMD GPU, but this PyTorch ({TORCH}) is built for CPUs only: install its ROCm build",
    ),
    "an AMD card that ROCm supports, PyTorch for CPUs": (
        amd(hip=None, files=HOST_LINUX | AMD_LINUX | kfd(90012, 110000)),
        f"this machine has an AMD GPU, but this PyTorch ({TORCH}) is built for CPUs only: install its ROCm build",
    ),
    "RDNA2, PyTorch for CPUs": (
        amd(hip=None, files=HOST_LINUX | AMD_LINUX | kfd(0, 100301)),
        f"this machine has an AMD GPU, but this PyTorch ({TORCH}) is built for CPUs only: its ROCm build may work or "
        "not, since ROCm supports neither RDNA2 nor older cards officially, and this is gfx1031",
    ),
    "AMD, PyTorch for CUDA": (
        amd(hip=None, cuda="13.0"),
        f"this machine has an AMD GPU, but this PyTorch ({TORCH}) is built for CUDA 13.0: install its ROCm build",
    ),
    "Windows, NVIDIA, PyTorch for CPUs": (
        Machine("win32", SYSTEM32 | {"Windows/System32/nvcuda.dll": ""}),
        f"this machine has an NVIDIA GPU, but this PyTorch ({TORCH}) is built for CPUs only: install its CUDA build",
    ),
    "Windows, AMD, PyTorch for CPUs": (
        Machine("win32", SYSTEM32 | {"Windows/System32/amdhip64_7.dll": ""}),
        f"this machine has an AMD GPU, but this PyTorch ({TORCH}) is built for CPUs only: install its ROCm build",
    ),
    "a laptop with both, PyTorch for CPUs": (
        linux(pci=(AMD, NVIDIA), files=HOST_LINUX | NVIDIA_LINUX | AMD_LINUX, cuda=None),
        f"this machine has an NVIDIA GPU, but this PyTorch ({TORCH}) is built for CPUs only: install its CUDA build",
    ),
    "a laptop with both, PyTorch for CUDA, driver missing": (
        linux(pci=(AMD, NVIDIA), files=HOST_LINUX | AMD_LINUX),
        "this machine has an NVIDIA GPU, but its driver is not loaded: install NVIDIA's driver and restart, until "
        "`nvidia-smi` lists the card",
    ),
    "NVIDIA, no driver": (
        linux(files=HOST_LINUX),
        "this machine has an NVIDIA GPU, but its driver is not loaded: install NVIDIA's driver and restart, until "
        "`nvidia-smi` lists the card",
    ),
    "NVIDIA, a container without the card": (
        linux(files=HOST_LINUX | {"proc/driver/nvidia/version": "NVRM"}),
        "this machine has an NVIDIA GPU, but /dev/nvidiactl is missing: start the container with `--gpus all`, or "
        "outside of one type `sudo nvidia-modprobe -c 0 -u`",
    ),
    "NVIDIA, not permitted": (
        linux(closed=("dev/nvidiactl",)),
        "this machine has an NVIDIA GPU, but you may not open /dev/nvidiactl: ask for access to it, or join its group",
    ),
    "NVIDIA, a container without CUDA's library": (
        linux(start_error="Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and ..."),
        "this machine has an NVIDIA GPU, but its driver has no CUDA library (libcuda.so): install NVIDIA's driver "
        "whole, or start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    ),
    "AMD, no /dev/kfd": (
        amd(files=HOST_LINUX),
        "this machine has an AMD GPU, but its driver offers no computing (/dev/kfd is missing): load amdgpu, or start "
        "the container with `--device /dev/kfd --device /dev/dri`",
    ),
    "AMD, a container without the renderer": (
        amd(files=HOST_LINUX | {"dev/kfd": "", "dev/dri/card0": ""}),
        "this machine has an AMD GPU, but /dev/dri is missing: load amdgpu, or start the container with `--device "
        "/dev/kfd --device /dev/dri`",
    ),
    "AMD, not in the groups": (
        amd(closed=("dev/kfd", "dev/dri/renderD128")),
        "this machine has an AMD GPU, but you may not open /dev/kfd: type `sudo usermod -aG render,video $USER`, log "
        "out and in again",
    ),
    "AMD, in one of the groups": (
        amd(closed=("dev/dri/renderD128",)),
        "this machine has an AMD GPU, but you may not open /dev/dri/renderD128: type `sudo usermod -aG render,video "
        "$USER`, log out and in again",
    ),
    "AMD, too old": (
        amd(start_error="No HIP GPUs are available"),
        "this machine has an AMD GPU, but this PyTorch (ROCm 7.1) does not see it: where `rocminfo` does not list it, "
        "the card or its driver is too old for ROCm",
    ),
    "Windows, AMD, too old": (
        Machine("win32", {"Windows/System32/amdhip64_6.dll": ""}, hip="7.1", start_error="No HIP GPUs are available"),
        "this machine has an AMD GPU, but this PyTorch (ROCm 7.1) does not see it: where `hipInfo` does not list it, "
        "the card or its driver is too old for ROCm",
    ),
    "driver too old": (
        linux(start_error=OLD_DRIVER),
        f"this machine has an NVIDIA GPU, but its driver knows CUDA 12.2 at most, and this PyTorch ({TORCH}) needs "
        "13.0: update the driver, or install PyTorch's build for an older CUDA",
    ),
    "driver too old, and a variable that is not to blame": (
        linux(start_error=OLD_DRIVER.replace("12020", "11080"), environment={"CUDA_VISIBLE_DEVICES": "0"}),
        f"this machine has an NVIDIA GPU, but its driver knows CUDA 11.8 at most, and this PyTorch ({TORCH}) needs "
        "13.0: update the driver, or install PyTorch's build for an older CUDA",
    ),
    "WSL, driver too old": (
        linux(start_error=OLD_DRIVER, files=WSL_NVIDIA, pci=()),
        f"this machine has an NVIDIA GPU, but its driver knows CUDA 12.2 at most, and this PyTorch ({TORCH}) needs "
        "13.0: update the driver in Windows, or install PyTorch's build for an older CUDA",
    ),
    "WSL, not seen": (
        linux(files=WSL_NVIDIA, pci=()),
        "this machine has an NVIDIA GPU, but this PyTorch (CUDA 13.0) does not see it: the driver of this WSL comes "
        "from Windows, update it there, and remove any installed in WSL",
    ),
    "hidden": (
        linux(environment={"CUDA_VISIBLE_DEVICES": "-1"}),
        "this machine has an NVIDIA GPU, but CUDA_VISIBLE_DEVICES='-1' hides it: unset that, or name a card that is "
        "there",
    ),
    "hidden by nothing": (
        linux(environment={"CUDA_VISIBLE_DEVICES": ""}),
        "this machine has an NVIDIA GPU, but CUDA_VISIBLE_DEVICES='' hides it: unset that, or name a card that is "
        "there",
    ),
    "an AMD card, hidden": (
        amd(environment={"HIP_VISIBLE_DEVICES": "7"}),
        "this machine has an AMD GPU, but HIP_VISIBLE_DEVICES='7' hides it: unset that, or name a card that is there",
    ),
    "a variable of the other maker hides nothing": (
        linux(environment={"HIP_VISIBLE_DEVICES": "-1"}),
        "this machine has an NVIDIA GPU, but this PyTorch (CUDA 13.0) does not see it: `nvidia-smi -L` must list it, "
        "and with MIG on, a slice of it",
    ),
    "a driver that fails": (
        linux(start_error=UNSUPPORTED),
        "this machine has an NVIDIA GPU, but its driver fails (Error 804: forward compatibility was attempted on non "
        "supported HW): restart the machine, or update the driver",
    ),
    "a card that another program holds": (
        linux(Card("A100", error=RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nhints"))),
        "cuda:0 (A100) cannot be used, because another program holds it for itself alone: end that program",
    ),
    "a card without memory for a context": (
        linux(Card("A100", error=torch.OutOfMemoryError("CUDA error: out of memory"))),
        "cuda:0 (A100) cannot be used, because other programs have taken all of its memory: end them",
    ),
    "a card that fails in another way": (
        linux(Card("A100 MIG 1g.5gb", error=AssertionError("Invalid device id"))),
        "cuda:0 (A100 MIG 1g.5gb) cannot be used, because it fails (Invalid device id): restart the machine or update "
        "its driver",
    ),
    "an NVIDIA card older than the build": (
        linux(Card("GeForce GTX 1080", capability=(6, 1)), kernels=("sm_75", "sm_86", "sm_120", "compute_120")),
        f"cuda:0 (GeForce GTX 1080) cannot be used, because its compute capability is 6.1, and this PyTorch ({TORCH}) "
        "has kernels for 7.5 to 12.0: install its build for an older CUDA",
    ),
    "an NVIDIA card newer than the build": (
        linux(Card("GeForce RTX 5090", capability=(12, 0)), kernels=("sm_75", "sm_86", "sm_90")),
        f"cuda:0 (GeForce RTX 5090) cannot be used, because its compute capability is 12.0, and this PyTorch ({TORCH}) "
        "has kernels for 7.5 to 9.0: install its build for a newer CUDA",
    ),
    "RDNA2 without kernels": (
        amd(Card("Radeon RX 6700 XT", gfx="gfx1031"), kernels=("gfx900", "gfx1030", "gfx1100")),
        f"cuda:0 (Radeon RX 6700 XT) cannot be used, because this PyTorch ({TORCH}) has no kernels for gfx1031: "
        "HSA_OVERRIDE_GFX_VERSION=10.3.0 makes it compute as gfx1030, which nobody supports",
    ),
    "an AMD card without kernels": (
        amd(Card("Radeon RX 580", gfx="gfx803"), kernels=("gfx900", "gfx1030", "gfx1100")),
        f"cuda:0 (Radeon RX 580) cannot be used, because this PyTorch ({TORCH}) has no kernels for gfx803: install a "
        "build that has them, if there is one",
    ),
}  # fmt: skip

UNIFIED = "has no memory of its own, it takes main memory: what is free is counted once, close other programs for more"
WATCHDOG = (
    "stops a card that is busy for 2 seconds, so prompts go to cuda:0 (GeForce RTX 3060) in pieces of 256 tokens: "
    "nothing to do"
)
FLOAT32 = (
    "cuda:0 (GeForce RTX 2060) computes in float32, which takes twice the memory and is slower, because NVIDIA cards "
    "before Ampere (compute capability 7.5) have no bfloat16: take an int4 model"
)
RDNA2 = (
    "cuda:0 (Radeon RX 6800) is gfx1030, and ROCm supports neither RDNA2 nor older cards officially: it may work; if "
    "answers are wrong, use --device cpu"
)
OVERRIDDEN = (
    "cuda:0 (Radeon RX 6700 XT) reports gfx1030 because HSA_OVERRIDE_GFX_VERSION=10.3.0 is set, and results may be "
    "wrong: unset it if ROCm supports the card"
)

# A machine whose card is used; what doctor says of it besides the card itself; what is said at the start.
USED = {
    "NVIDIA": (linux(GEFORCE, kernels=("sm_80", "sm_86")), [], []),
    "NVIDIA, kernels of the same generation": (linux(GEFORCE, kernels=("sm_80", "sm_90")), [], []),
    "NVIDIA, kernels to be compiled": (linux(GEFORCE, kernels=("sm_75", "compute_75")), [], []),
    "AMD": (amd(RADEON, kernels=("gfx1030", "gfx1100")), [], []),
    "AMD, kernels for all of a generation": (amd(RADEON, kernels=("gfx11-generic",)), [], []),
    "an Instinct": (amd(Card("MI210", gfx="gfx90a")), [], []),
    "before Ampere": (linux(Card("GeForce RTX 2060", capability=(7, 5))), [FLOAT32], [f"{FLOAT32}."]),
    "RDNA2": (amd(Card("Radeon RX 6800", gfx="gfx1030")), [RDNA2], [f"{RDNA2}."]),
    "an architecture that is not the card's": (
        amd(Card("Radeon RX 6700 XT", gfx="gfx1030"), environment={"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}),
        [OVERRIDDEN],
        [f"{OVERRIDDEN}."],
    ),
    "a variable that changes nothing": (
        amd(RADEON, files=HOST_LINUX | AMD_LINUX | kfd(110000), environment={"HSA_OVERRIDE_GFX_VERSION": "11.0.0"}),
        [],
        [],
    ),
    "an architecture that is not the card's, for one card": (
        amd(
            Card("Radeon RX 6700 XT", gfx="gfx1030"),
            files=HOST_LINUX | AMD_LINUX | kfd(100301),
            environment={"HSA_OVERRIDE_GFX_VERSION_0": "10.3.0"},
        ),
        [OVERRIDDEN.replace("VERSION=", "VERSION_0=")],
        [OVERRIDDEN.replace("VERSION=", "VERSION_0=") + "."],
    ),
    "NVIDIA, a variable for AMD": (linux(GEFORCE, environment={"HSA_OVERRIDE_GFX_VERSION": "10.3.0"}), [], []),
    "an APU": (
        amd(Card("Radeon 8060S", 60 * GB, 50 * GB, gfx="gfx1151", integrated=True)),
        [f"cuda:0 (Radeon 8060S) {UNIFIED}"],
        [],
    ),
    "GB10, of which PyTorch does not say": (
        linux(Card("NVIDIA GB10", 64 * GB, 50 * GB, (12, 1), integrated=None)),
        [f"cuda:0 (NVIDIA GB10) {UNIFIED}"],
        [],
    ),
    "Jetson, without PCI": (
        linux(Card("Orin", 30 * GB, 20 * GB, (8, 7), integrated=True), pci=(), files={"dev/nvhost-ctrl-gpu": ""}),
        [f"cuda:0 (Orin) {UNIFIED}"],
        [],
    ),
    "an APU with a share that the firmware set aside": (
        amd(Card("Radeon 8060S", 96 * GB, 90 * GB, gfx="gfx1151", integrated=True), main_memory=(32 * GB, 20 * GB)),
        [],
        [],
    ),
    "Windows": (
        Machine("win32", {"Windows/System32/nvcuda.dll": ""}, cuda="13.0", cards=(GEFORCE,)),
        [f"Windows {WATCHDOG}"],
        [],
    ),
    "WSL": (
        linux(GEFORCE, files=WSL_NVIDIA, pci=()),
        [f"WSL {WATCHDOG}", "this is WSL, whose driver comes from Windows: update it there, install none here"],
        [],
    ),
    "an integrated card first": (
        amd(Card("Radeon Graphics", 30 * GB, 30 * GB, gfx="gfx1103", integrated=True), RADEON),
        [
            f"cuda:0 (Radeon Graphics) {UNIFIED}",
        ],
        [
            "computing on cuda:1 (Radeon RX 7900 XTX), not on cuda:0 (Radeon Graphics), because that is integrated; "
            "--device cuda:N takes another."
        ],
    ),
    "the second with more free memory": (
        linux(Card("first", free=2 * GB), Card("second", free=9 * GB), Card("third", free=8 * GB)),
        [],
        ["computing on cuda:1 (second), not on cuda:0 (first), because that has less free memory; --device cuda:N "
         "takes another."],
    ),
    "the second with bfloat16": (
        linux(Card("Titan", free=11 * GB, capability=(7, 5)), Card("GeForce RTX 4060", free=7 * GB, capability=(8, 9))),
        ["cuda:0 (Titan) computes in float32, which takes twice the memory and is slower, because NVIDIA cards before "
         "Ampere (compute capability 7.5) have no bfloat16: take an int4 model"],
        ["computing on cuda:1 (GeForce RTX 4060), not on cuda:0 (Titan), because that has no bfloat16; --device cuda:N "
         "takes another."],
    ),
    "the first in use": (
        linux(Card("first", error=RuntimeError("CUDA error: out of memory")), Card("second")),
        ["cuda:0 (first) cannot be used, because other programs have taken all of its memory: end them "
         "(docs/install.md says more)"],
        ["computing on cuda:1 (second), not on cuda:0 (first), because other programs have taken all of its memory: "
         "end them; --device cuda:N takes another."],
    ),
    "equal ones": (linux(Card("one"), Card("one")), [], []),
}  # fmt: skip


def said_of_cards(device="auto"):
    return [finding for finding in device_findings(device) if finding.topic == "GPU"]


@pytest.mark.parametrize(("machine", "sentence"), UNUSED.values(), ids=UNUSED)
def test_a_card_that_is_not_used_is_explained_and_the_cpu_goes_on(entered, machine, sentence):
    entered(machine)
    (finding,) = said_of_cards()
    told = sentence if machine.cards else f"not used: {sentence}"
    assert (finding.text, finding.state) == (f"{told} (docs/install.md says more)", "note")
    choice = choose_device("auto")
    assert choice.device.type == "cpu"
    assert choice.reason == f"cpu: {sentence}"
    assert choice.notes == (f"computing on the CPU: {sentence} (see `zaya doctor`; --device cpu accepts it).",)


@pytest.mark.parametrize(("machine", "sentence"), UNUSED.values(), ids=UNUSED)
def test_a_card_that_was_asked_for_is_an_error_with_the_same_reason(entered, machine, sentence):
    entered(machine)
    for name in ("cuda", "cuda:0"):
        with pytest.raises(DeviceError) as raised:
            choose_device(name)
        assert str(raised.value) == f"device {name!r} was asked for, but {sentence}, or use --device cpu."


@pytest.mark.parametrize(("machine", "in_doctor", "at_start"), USED.values(), ids=USED)
def test_what_is_so_of_a_card_that_is_used_is_said(entered, machine, in_doctor, at_start):
    entered(machine)
    labels = tuple(f"cuda:{number} ({card.name}), " for number, card in enumerate(machine.cards))
    assert [finding.text for finding in said_of_cards() if not finding.text.startswith(labels)] == in_doctor
    for name in ("auto", "cuda"):
        choice = choose_device(name)
        assert choice.device.type == "cuda"
        assert list(choice.notes) == at_start


@pytest.mark.parametrize("machine", [Machine(), Machine(files={}), Machine("darwin"), Machine("win32")])
def test_without_a_card_there_is_nothing_to_say(entered, machine):
    entered(machine)
    assert [finding.text for finding in said_of_cards()] == ["none found"]
    choice = choose_device("auto")
    assert (choice.reason, choice.notes) == (f"cpu: this PyTorch ({TORCH}) sees no GPU", ())


def test_a_wsl_without_cuda_is_explained_by_doctor_alone_since_there_may_be_no_card(entered):
    entered(Machine(files=WSL))
    assert [finding.text for finding in said_of_cards()] == [
        "not used: this is WSL, whose drivers come from Windows, and there is none for CUDA "
        "(/usr/lib/wsl/lib/libcuda.so): for an NVIDIA card install NVIDIA's driver in Windows, none in WSL, and type "
        "`wsl --shutdown` there (docs/install.md says more)"
    ]
    assert choose_device("auto").notes == ()


@pytest.mark.parametrize(
    "name", ["gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:²", "cuda:01", "cuda:9999", "mps", ""]
)
def test_what_is_no_device_is_refused(entered, name):
    entered(linux(GEFORCE))
    with pytest.raises(UsageError) as raised:
        choose_device(name)
    assert str(raised.value) == (
        f"device {name!r} is not offered: use auto, cpu, cuda or cuda:N (NVIDIA, and AMD with a ROCm PyTorch)."
    )


@pytest.mark.parametrize(("name", "asked"), [("auto", {0, 1, 2}), ("cuda", {0, 1, 2}), ("cuda:1", {1}), ("cpu", set())])
def test_cards_that_were_not_meant_are_left_alone(entered, monkeypatch, name, asked):
    """Each that is asked for its memory loses some of it to this process."""
    entered(linux(Card("a"), Card("b"), Card("c")))
    called, memory = [], torch.cuda.mem_get_info

    def noted(index):
        called.append(index)
        return memory(index)

    monkeypatch.setattr("torch.cuda.mem_get_info", noted)
    choose_device(name)
    memory_of(name)
    assert set(called) == asked


def test_a_number_says_exactly_which_card(entered):
    entered(linux(Card("first", free=GB), Card("second", error=RuntimeError("CUDA error: out of memory")), GEFORCE))
    choice = choose_device("cuda:0")
    assert (choice.device, choice.notes) == (torch.device("cuda:0"), ())
    with pytest.raises(DeviceError, match=r"cuda:1 \(second\) cannot be used, because other programs have taken"):
        choose_device("cuda:1")


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (linux(GEFORCE), "PyTorch sees 1 GPU, counted from 0: name cuda:0 (GeForce RTX 3060)"),
        (linux(Card("a"), Card("b")), "PyTorch sees 2 GPUs, counted from 0: name cuda:0 (a) or cuda:1 (b)"),
        (
            linux(GEFORCE, environment={"CUDA_VISIBLE_DEVICES": "0"}),
            "PyTorch sees 1 GPU with CUDA_VISIBLE_DEVICES='0', counted from 0: name cuda:0 (GeForce RTX 3060)",
        ),
    ],
)
def test_a_number_that_no_card_has_is_an_error_with_those_that_there_are(entered, machine, sentence):
    entered(machine)
    with pytest.raises(DeviceError) as raised:
        choose_device("cuda:5")
    assert str(raised.value) == f"device 'cuda:5' was asked for, but {sentence}, or use --device cpu."


@pytest.mark.parametrize(
    ("card", "main_memory", "total", "free", "place"),
    [
        (Card("APU", 60, 50, gfx="gfx1151", integrated=True), (64, 30), 60, 30, "APU, in main memory"),
        (Card("APU", 60, 20, gfx="gfx1151", integrated=True), (64, 30), 60, 20, "APU, in main memory"),
        (Card("APU", 65, 50, gfx="gfx1151", integrated=None), (64, 30), 64, 30, "APU, in main memory"),
        (Card("APU", 96, 90, gfx="gfx1151", integrated=True), (32, 30), 96, 90, "APU"),
        (Card("card", 60, 50, gfx="gfx1100"), (64, 30), 60, 50, "card"),
        (Card("card", 60, 50, gfx="gfx1100", integrated=None), (64, 30), 60, 50, "card"),
    ],
)
def test_the_memory_of_an_integrated_card_is_main_memory_counted_once(entered, card, main_memory, total, free, place):
    entered(amd(card, main_memory=main_memory))
    memory = memory_of("auto")
    assert (memory.total, memory.free, memory.place) == (total, free, place)


@pytest.mark.parametrize(
    ("device", "place"), [("auto", "second"), ("cuda", "second"), ("cuda:0", "first"), ("cuda:²", "second")]
)
def test_the_memory_of_a_card_is_that_of_the_one_that_is_meant(entered, device, place):
    entered(linux(Card("first", free=GB), Card("second", free=2 * GB)))
    assert memory_of(device).place == place


def test_the_memory_of_a_card_that_only_pytorch_sees_is_its_own_where_it_was_asked_for(entered):
    entered(Machine(files={}, cuda="13.0", cards=(GEFORCE,)))
    assert memory_of("cuda").place == "GeForce RTX 3060"


@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0", "cuda:1"])
def test_main_memory_counts_where_no_card_can_be_used(entered, device):
    entered(linux(Card("first", error=RuntimeError("CUDA error: out of memory"))))
    assert memory_of(device).place.startswith("main memory")


def test_doctor_reports_the_cards_and_goes_on(zaya, entered):
    entered(linux(Card("GeForce RTX 2060", 6 * GB, 5 * GB, (7, 5)), Card("A100", error=RuntimeError("broken"))))
    result = zaya("doctor", "--no-self-test", "--format", "json")
    texts = [one["text"] for one in json.loads(result.out) if one["topic"] in ("GPU", "device")]
    assert result.code == 0
    assert texts == [
        "cuda:0 (GeForce RTX 2060), 6.00 GB, 5.00 GB free, compute capability 7.5",
        FLOAT32,
        "cuda:1 (A100) cannot be used, because it fails (broken): restart the machine or update its driver "
        "(docs/install.md says more)",
        "cuda:0: GeForce RTX 2060 (CUDA)",
    ]


@pytest.mark.parametrize("ask", [("run", "-p", "hello", "-q"), ("chat",), ("bench", "-p", "4", "-r", "1")])
@pytest.mark.usefixtures("quickly_read")
def test_the_cpu_is_never_taken_silently_where_there_is_a_card(zaya, entered, ask):
    machine, sentence = UNUSED["hidden"]
    entered(machine)
    ask = (*ask, "-m", "demo", "-n", "2")
    result = zaya(*ask, piped="1+1\n")
    assert result.code == 0
    line = f"zaya: computing on the CPU: {sentence} (see `zaya doctor`; --device cpu accepts it).\n"
    assert result.err.count(line) == 1
    assert "computing on" not in zaya(*ask, "--device", "cpu", piped="1+1\n").err


def test_a_card_that_was_asked_for_and_is_missing_ends_with_its_sentence(zaya, entered):
    machine, sentence = UNUSED["AMD, not in the groups"]
    entered(machine)
    result = zaya("run", "-p", "hello", "-m", "demo", "--device", "cuda")
    assert (result.code, result.out) == (4, "")
    assert result.err == f"zaya: device 'cuda' was asked for, but {sentence}, or use --device cpu.\n"


def test_what_pytorch_warns_of_is_said_in_this_programs_words_alone(zaya, entered, monkeypatch, recwarn):
    machine, sentence = UNUSED["driver too old"]
    entered(machine)
    monkeypatch.setattr("torch.cuda.is_available", lambda: warnings.warn(OLD_DRIVER, stacklevel=1) is not None)
    result = zaya("run", "-p", "hello", "-m", "demo", "-n", "2", "-q")
    assert result.err == f"zaya: computing on the CPU: {sentence} (see `zaya doctor`; --device cpu accepts it).\n"
    assert not [one for one in recwarn if "too old" in str(one.message)]
