"""Whether zaya's kernels compute on a card, or torch does, and why: what was asked for, what is there, what was found.

Kernels that nobody has checked on a card are not used there, unless a person says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from quant.kernels.resolve import VARIABLE, wanted_kernels
from zaya_core.config.graphs import Graphs
from zaya_core.errors import UsageError
from zaya_core.machine.gpus import Gpu, visible_gpus
from zaya_core.machine.kernel_check import checked
from zaya_core.machine.kernel_verdict import Verdict, kept_verdict
from zaya_core.machine.triton_support import (
    INTERPRETER_VARIABLE,
    is_interpreted,
    what_triton_lacks,
    why_no_triton,
    why_not_installed,
)

TRITON, TORCH, UNKNOWN = "triton", "torch", "not known yet"
_UNCHECKED = "zaya's kernels are checked on this card when a model is first loaded there"
_ON_ROCM = "not verified on ROCm"


@dataclass(frozen=True)
class CardChoice:
    """name: who computes. graphs: whether the kernels of a decode step are replayed as a recorded graph. notes: what a
    person should be told at the start, in sentences."""

    name: str
    reason: str
    graphs: bool = False
    notes: tuple[str, ...] = ()

    @property
    def uses_kernels(self) -> bool:
        """Whether zaya's kernels compute."""
        return self.name == TRITON


def choose_for(device: torch.device, graphs: Graphs = "auto") -> CardChoice:
    """For a model that is to be loaded; the kernels are checked now if nothing is known of them.

    Raises UsageError where ZAYA_KERNELS wants Triton's kernels and Triton lacks something, or on a CPU, outside of its
    interpreter.
    """
    return _choose(device, graphs, lambda gpu: kept_verdict(gpu) or checked(gpu))


def known_choice(device: torch.device, graphs: Graphs = "auto") -> CardChoice:
    """What `choose_for` would say, as far as it is known without a check. Raises UsageError as that."""
    return _choose(device, graphs, kept_verdict)


def is_unchecked(gpu: Gpu) -> bool:
    """Whether `choose_for` would check the kernels on this card, which takes a minute or two."""
    is_open = wanted_kernels().partition(":")[0] in ("auto", "native")  # the latter says something of CPUs alone
    return is_open and why_no_triton(gpu) is None and kept_verdict(gpu) is None


def _choose(device: torch.device, graphs: Graphs, verdict_of: Callable[[Gpu], Verdict | None]) -> CardChoice:
    wanted = wanted_kernels()
    if device.type == "cpu":
        return _on_cpu(wanted)
    if wanted in ("torch", "reference"):
        return CardChoice(TORCH, f"{VARIABLE}={wanted}", notes=_idle(graphs))
    if wanted == TRITON:
        _expect_triton(what_triton_lacks())
        return _with_kernels(device, f"{VARIABLE}={wanted}", graphs, None)
    (gpu,) = visible_gpus(f"cuda:{device.index or 0}")
    if (why := why_no_triton(gpu)) is not None:
        return _without_kernels(gpu, why, graphs)
    if (verdict := verdict_of(gpu)) is None:
        return CardChoice(UNKNOWN, _UNCHECKED)
    choice = (
        _with_kernels(device, verdict.sentence, graphs, verdict)
        if verdict.passed
        else _without_kernels(gpu, verdict.sentence, graphs)
    )
    if verdict.unkept is None:
        return choice
    unkept = f"the check of zaya's kernels is repeated at every start: {verdict.unkept}."
    return CardChoice(choice.name, choice.reason, choice.graphs, (*choice.notes, unkept))


def _on_cpu(wanted: str) -> CardChoice:
    if wanted != TRITON:
        return CardChoice(TORCH, "the CPU has kernels of its own")
    if not is_interpreted():
        raise UsageError(
            f"{VARIABLE}={wanted} computes on a card, and this is the CPU: use --device cuda, or for tests "
            f"{INTERPRETER_VARIABLE}=1."
        )
    _expect_triton(why_not_installed())
    return CardChoice(TRITON, f"{VARIABLE}={wanted}, in Triton's interpreter")


def _expect_triton(lacking: str | None) -> None:
    """What a person has asked for is not replaced by something else."""
    if lacking is not None:
        raise UsageError(f"{VARIABLE}={TRITON} asks for zaya's kernels: {lacking}.")


def _without_kernels(gpu: Gpu, why: str, graphs: Graphs) -> CardChoice:
    note = f"{gpu.label} computes with torch, not with zaya's kernels: {why}; see `zaya doctor`."
    return CardChoice(TORCH, why, notes=(note, *_idle(graphs)))


def _idle(graphs: Graphs) -> tuple[str, ...]:
    return () if graphs == "auto" else (f"--graphs {graphs} does nothing here: torch computes.",)


def _with_kernels(device: torch.device, why: str, graphs: Graphs, verdict: Verdict | None) -> CardChoice:
    doubt = _doubt(verdict)
    on = graphs == "on" or (graphs == "auto" and doubt is None)
    because = "asked for" if graphs == "off" else doubt
    notes: tuple[str, ...] = ()
    if on and doubt is not None:
        notes = (f"{device} replays recorded graphs ({doubt}): if answers are wrong, use --graphs off.",)
    said = f"graphs {'on' if on else 'off'}{f' ({because})' if because else ''}"
    return CardChoice(TRITON, f"{why}; {said}", on, notes)


def _doubt(verdict: Verdict | None) -> str | None:
    """Why graphs are not replayed unless a person says so; None where nothing speaks against them."""
    if verdict is not None and verdict.graphs:
        return None
    if torch.version.hip:
        return _ON_ROCM
    return "not checked" if verdict is None or verdict.graphs_fault is None else verdict.graphs_fault
