"""Whether Triton, which compiles zaya's kernels, can work for a card here; found out without importing it.

It compiles a small C module at run time, too, so that on Linux it needs a C compiler and Python's headers.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import torch

from zaya_core.files.user_cache import user_cache
from zaya_core.files.write_errors import why_not_writable
from zaya_core.machine.gpu_kernels import is_supported_by_rocm
from zaya_core.machine.gpus import Gpu

CACHE_VARIABLE, INTERPRETER_VARIABLE = "TRITON_CACHE_DIR", "TRITON_INTERPRET"
_SINCE = (8, 0)  # Ampere
_DISTRIBUTIONS = ("triton", "triton-windows", "triton-rocm", "pytorch-triton-rocm", "pytorch-triton-xpu")
_PINNED = re.compile(r"triton==[\w.+]+")
# By the program that installs: its command, and the packages of a C compiler and of Python's headers.
_INSTALLERS = {
    "apt": ("sudo apt install", "gcc", "python3.{minor}-dev"),
    "dnf": ("sudo dnf install", "gcc", "python3-devel"),
    "zypper": ("sudo zypper install", "gcc", "python3{minor}-devel"),
    "pacman": ("sudo pacman -S", "gcc", "python"),
}


def why_no_triton(gpu: Gpu) -> str | None:
    """What Triton lacks for this card, and what to do, without a full stop; None for nothing.

    Whether what it compiles is right, the check of the kernels says (`kernel_check.py`).
    """
    return _why_not_this_card(gpu) or what_triton_lacks()


def what_triton_lacks() -> str | None:
    """The same of this machine, whatever its card."""
    return why_not_installed() or _why_no_compiler() or _why_no_cache()


def why_not_installed() -> str | None:
    """That there is no Triton, and what to type."""
    if find_spec("triton") is not None:
        return None
    missing = "Triton, which compiles them, is not installed"
    if sys.platform == "win32":
        return f"{missing}: type `pip install triton-windows`"
    if sys.platform != "linux":
        return f"{missing}, and there is none for this system: nothing to do"
    if torch.version.hip:
        return f"{missing}: install PyTorch's ROCm build again, which brings it along"
    return f"{missing}: type `pip install {_pinned()}`"


def is_interpreted() -> bool:
    """Whether Triton computes on the CPU, statement by statement, as its variable asks."""
    return os.environ.get(INTERPRETER_VARIABLE, "0").lower() in ("1", "true", "on", "yes", "y")


def triton_version() -> str | None:
    """Of the installed Triton, None where there is none."""
    for name in _DISTRIBUTIONS:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def cache_in_use() -> tuple[Path, str | None]:
    """Where Triton is to keep what it has compiled: in its own folder, or in one of ours if that cannot be written.

    With that, or why not even that can be written.
    """
    own, ours = _triton_cache(), user_cache() / "triton"
    why = why_not_writable(own)
    if why is None:
        return own, None
    return ours, None if why_not_writable(ours) is None else f"nothing can be written into {own} ({why})"


def cache_note() -> str | None:
    """That Triton does not keep what it compiles in its own folder; None if it does, or can nowhere."""
    own, (folder, why) = _triton_cache(), cache_in_use()
    if folder == own or why is not None:
        return None
    return f"nothing can be written into {own}, where Triton keeps what it has compiled: {folder} is taken"


def use_cache() -> None:
    """Let Triton in this process, and in those that it starts, keep what it compiles where that can be kept."""
    if (folder := cache_in_use()[0]) != _triton_cache():
        os.environ[CACHE_VARIABLE] = str(folder)


def _why_not_this_card(gpu: Gpu) -> str | None:
    if not (torch.version.cuda or torch.version.hip):
        return f"this PyTorch ({torch.__version__}) is built for CPUs only"
    if is_interpreted():
        return f"{INTERPRETER_VARIABLE} makes Triton compute on the CPU: unset it"
    if gpu.capability is not None and gpu.capability < _SINCE:
        least, own = (".".join(map(str, one)) for one in (_SINCE, gpu.capability))
        return f"Triton supports NVIDIA cards from compute capability {least} on, and this has {own}: nothing to do"
    if gpu.gfx is not None and not is_supported_by_rocm(gpu.gfx):
        return f"Triton supports neither RDNA2 nor older cards, and this is {gpu.gfx}: nothing to do"
    return None


def _pinned() -> str:
    """The version that belongs to this PyTorch, if that says which."""
    try:
        found = [match[0] for one in requires("torch") or () if (match := _PINNED.match(one.replace(" ", "")))]
    except PackageNotFoundError:
        found = []
    return found[0] if found else "triton"


def _why_no_compiler() -> str | None:
    """For Windows the compiler is part of the package."""
    if sys.platform != "linux":
        return None
    named = os.environ.get("CC")
    if named is not None and shutil.which(named) is None:
        return f"Triton compiles with CC={named}, and there is no such program: unset CC, or let it name a C compiler"
    has_compiler = named is not None or any(map(shutil.which, ("gcc", "clang")))
    has_headers = any((folder / "Python.h").is_file() for folder in _include_folders())
    if has_compiler and has_headers:
        return None
    lacking = " and ".join(["a C compiler"] * (not has_compiler) + ["Python's headers (Python.h)"] * (not has_headers))
    are = "are" if not has_headers else "is"
    return f"{lacking}, which Triton needs, {are} missing: {_how_to_install(not has_compiler, not has_headers)}"


def _include_folders() -> list[Path]:
    """Where the compiler looks, as Triton asks it to."""
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # Debian's own has no headers
    named = os.environ.get("CPATH", "").split(os.pathsep) + os.environ.get("C_INCLUDE_PATH", "").split(os.pathsep)
    return [Path(sysconfig.get_paths(scheme)["include"]), *(Path(one) for one in named if one)]


def _how_to_install(compiler: bool, headers: bool) -> str:
    for program, (command, for_compiler, for_headers) in _INSTALLERS.items():
        if shutil.which(program) is not None:
            packages = [for_compiler] * compiler + [for_headers.format(minor=sys.version_info.minor)] * headers
            return f"type `{command} {' '.join(packages)}`"
    return f"install {' and '.join(['gcc'] * compiler + ['the development files of this Python'] * headers)}"


def _triton_cache() -> Path:
    """As Triton itself finds it."""
    named = os.environ.get(CACHE_VARIABLE)
    home = os.environ.get("TRITON_HOME") or os.path.expanduser("~/")
    return Path(named) if named else Path(home) / ".triton" / "cache"


def _why_no_cache() -> str | None:
    folder, why = cache_in_use()
    return None if why is None else f"{why}, nor into {folder}: let {CACHE_VARIABLE} name a folder where it can be"
