"""zaya's kernels on a card: checked once, before a model is loaded there, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zaya_cli.machine.device_report import card_in_use
from zaya_cli.terminal.output import write_note
from zaya_cli.terminal.progress import ProgressLine
from zaya_core.config.graphs import Graphs
from zaya_core.measure.checkup.finding import Finding

if TYPE_CHECKING:
    from zaya_core.engine.engine import Engine
    from zaya_core.machine.gpus import Gpu
    from zaya_core.model.model import ZayaModel


def prepare_kernels(device: str, graphs: Graphs) -> None:
    """Say what a person should know of who computes on a card, checked if need be. device: "cuda:N", or none's name.

    Raises UsageError as `products_in_use` and `choose_for`.
    """
    if not device.startswith("cuda"):
        return
    import torch

    from zaya_core.kernels.card_choice import choose_for
    from zaya_core.kernels.resolve import products_in_use
    from zaya_core.machine.gpus import visible_gpus

    products_in_use()  # what ZAYA_KERNELS asks for must be there before anything is checked
    for gpu in visible_gpus(device):
        check_kernels(gpu)
    for note in choose_for(torch.device(device), graphs).notes:
        write_note(f"zaya: {note}")


def report_declined(model: ZayaModel) -> None:
    """Say why a loaded model is computed by torch on a card whose kernels are right."""
    from zaya_core.kernels.card_choice import TRITON, known_choice

    if model.device.type == "cuda" and model.steps.name != TRITON and known_choice(model.device).uses_kernels:
        write_note(
            f"zaya: {model.device} computes this model with torch, not with zaya's kernels: {model.steps.reason}."
        )


def warm_up_kernels(engine: Engine) -> None:
    """Compile what an Engine's model computes with on a card, if Triton's kernels do, and show that it takes time."""
    from zaya_core.kernels.card_choice import TRITON

    if engine.model.device.type == "cpu" or engine.model.steps.name != TRITON:
        return
    from zaya_core.engine.warm_up import warm_up

    with ProgressLine() as line:
        warm_up(engine, lambda doing: line.show(f"compiling {doing}; later starts find them"))


def check_kernels(gpu: Gpu) -> None:
    """Find out whether zaya's kernels are right on a card, unless that is known or nobody asks for it."""
    from zaya_core.kernels.card_choice import is_unchecked
    from zaya_core.machine.kernel_check import LONGEST_CHECK, checked

    if not is_unchecked(gpu):
        return
    most = f"at most {LONGEST_CHECK / 60:.0f} minutes"
    write_note(f"zaya: checking its kernels on {gpu.label}, once for this driver and version ({most}) ...")
    with ProgressLine() as line:
        checked(gpu, on_progress=lambda doing: line.show(f"checking {doing}"))


def kernel_findings(device: str, may_check: bool) -> Iterator[Finding]:
    """What `zaya doctor` says of who multiplies, on the CPU and on the card that a device's name means here.

    may_check: whether a card's kernels are checked now, if nothing is known of them.
    """
    from zaya_core.kernels.resolve import products_in_use
    from zaya_core.machine.gpus import visible_gpus

    card = card_in_use(device)
    gpus = [] if card is None else visible_gpus(str(card))
    for gpu in gpus if may_check else []:
        check_kernels(gpu)
    for products in products_in_use(card):
        yield Finding("kernels", f"{products.name} ({products.reason})", "ok" if products.is_fast else "note")
    for gpu in gpus:
        yield from _of_verdict(gpu)


def _of_verdict(gpu: Gpu) -> Iterator[Finding]:
    from zaya_core.machine.kernel_verdict import kept_verdict, verdicts_file
    from zaya_core.machine.triton_support import cache_note, why_no_triton

    verdict = kept_verdict(gpu)
    if verdict is None or why_no_triton(gpu) is not None:
        return
    for failure in verdict.failed:
        yield Finding("kernels", f"{gpu.label}: {failure}", "note")
    if verdict.unkept is not None:
        yield Finding("kernels", f"{verdict.unkept}: they are checked at every start", "note")
    elif verdict.counts:
        text = f"{gpu.label} was checked in {verdict.seconds:.0f} s: delete {verdicts_file()} to check again"
        yield Finding("kernels", text)
    if (note := cache_note()) is not None:
        yield Finding("kernels", note)
