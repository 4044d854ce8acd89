"""Whether this PyTorch was built with kernels for a card: one without them starts, and fails at the first product."""

from __future__ import annotations

import re
import sys

import torch

# AMD's before RDNA3, without the Instinct accelerators gfx908, gfx90a and gfx94x.
_UNSUPPORTED = re.compile("gfx([678]..|90[0-79c]|10..)")
_CUDA = re.compile(r"(sm|compute)_(\d+)(\d)([af]?)")


def why_no_kernels(capability: tuple[int, int] | None, gfx: str | None) -> str | None:
    """What is missing for a card of this compute capability, or AMD architecture, and what to do; None for nothing."""
    built = _built_for()
    if capability is not None:
        return _why_not_nvidia(capability, built)
    return None if gfx is None else _why_not_amd(gfx, built)


def is_supported_by_rocm(gfx: str) -> bool:
    """Whether AMD speaks of supporting cards of this architecture."""
    return _UNSUPPORTED.fullmatch(gfx) is None


def _built_for() -> list[str]:
    """As PyTorch lists it: sm_86, compute_120, gfx1100; empty where it does not say."""
    try:
        return torch.cuda.get_arch_list()
    except Exception:
        return []


def _why_not_nvidia(capability: tuple[int, int], built: list[str]) -> str | None:
    found = [match for name in built if (match := _CUDA.fullmatch(name)) is not None]
    if not found or any(_runs_on(match, capability) for match in found):
        return None
    versions = sorted((int(match[2]), int(match[3])) for match in found)
    age = "an older" if capability < versions[0] else "a newer"
    least, most, own = (".".join(map(str, version)) for version in (versions[0], versions[-1], capability))
    return (
        f"its compute capability is {own}, and this PyTorch ({torch.__version__}) has kernels for {least} to {most}: "
        f"install its build for {age} CUDA"
    )


def _runs_on(kernels: re.Match[str], capability: tuple[int, int]) -> bool:
    """Binary code runs on later cards of the same generation, `compute_` on all later ones, a suffix on one card."""
    version = (int(kernels[2]), int(kernels[3]))
    if kernels[4] == "a" or version > capability:
        return version == capability
    return kernels[1] == "compute" or version[0] == capability[0]


def _why_not_amd(gfx: str, built: list[str]) -> str | None:
    names = [name for name in built if name.startswith("gfx")]
    if not names or gfx in names or any(_is_generic_of(name, gfx) for name in names):
        return None
    like = gfx[:-1] + "0"  # the first of its generation
    missing = f"this PyTorch ({torch.__version__}) has no kernels for {gfx}"
    if like not in names or sys.platform == "win32":
        return f"{missing}: install a build that has them, if there is one"
    return f"{missing}: HSA_OVERRIDE_GFX_VERSION={_dotted(like)} makes it compute as {like}, which nobody supports"


def _is_generic_of(name: str, gfx: str) -> bool:
    """`gfx11-generic` has kernels for all of gfx11, `gfx10-3-generic` for all of gfx103."""
    return name.endswith("-generic") and gfx.startswith(name.removesuffix("-generic").replace("-", ""))


def _dotted(gfx: str) -> str:
    """gfx1030 as 10.3.0."""
    digits = gfx.removeprefix("gfx")
    return ".".join((digits[:-2], *digits[-2:]))
