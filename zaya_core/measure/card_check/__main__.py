"""The program: checks of kernels, then of whole models, then of replayed graphs, on one device."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from zaya_core.machine.gpus import first_line
from zaya_core.machine.triton_support import is_interpreted
from zaya_core.measure.card_check.check import Check, is_for_want_of_room, named, outcome_of
from zaya_core.measure.card_check.protocol import end_with_parent, say_doing, say_result, say_unchecked


def main(arguments: Sequence[str] | None = None) -> None:
    """See `protocol` for what it writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", required=True, help="cuda:N, or cpu with TRITON_INTERPRET=1")
    parser.add_argument("--limit", type=float, help="end after so many seconds, and when standard input ends")
    given = parser.parse_args(arguments)
    if given.limit is not None:
        end_with_parent(given.limit)
    device = torch.device(given.device)
    torch.set_float32_matmul_precision("highest")  # a variable, as some containers set it, makes torch round to TF32
    try:
        say_doing("the card")
        torch.ones(1, device=device).item()
        with tempfile.TemporaryDirectory() as folder:
            say_doing("the start of Triton")
            checks = _checks(Path(folder))
            _start_triton(device)
            _run(checks, device)
    except Exception as error:  # of a driver, a compiler, a disk: no fault of the kernels
        say_unchecked(_why_unchecked(error))


def _start_triton(device: torch.device) -> None:
    """Let it compile what it needs to launch anything, and find the driver's library."""
    if device.type == "cuda":
        from triton.runtime import driver

        with torch.cuda.device(device):
            driver.active.get_current_target()


def _why_unchecked(error: Exception) -> str:
    said = first_line(error)
    if "busy or unavailable" in said:  # to this process, though not to the one that started it
        return "the card is set to serve one process at a time: type `sudo nvidia-smi -c DEFAULT`"
    return said if is_for_want_of_room(error) else named(error)


def _run(checks: Sequence[Check], device: torch.device) -> None:
    outcome = outcome_of(checks, device)
    if outcome is None:
        return
    say_result(outcome.failed, outcome.worst)
    if not outcome.failed and device.type == "cuda" and not torch.version.hip:  # on ROCm a replay may do harm
        say_doing("the recorded step as a graph")
        fault = _graphs_fault(device)
        say_result(outcome.failed, outcome.worst, fault is None, fault)


def _graphs_fault(device: torch.device) -> str | None:
    from zaya_core.measure.card_check.tokens import graphs_fault

    try:
        return graphs_fault(device)
    except Exception as error:
        if is_for_want_of_room(error):
            raise
        return named(error)


def _checks(folder: Path) -> list[Check]:
    """Kernels first: what fails in one makes a model fail, too, and has a name of its own."""
    from zaya_core.measure.card_check.attention import attention_checks
    from zaya_core.measure.card_check.choices import choice_checks
    from zaya_core.measure.card_check.layer import full_size_layer_checks, layer_checks
    from zaya_core.measure.card_check.products import product_checks
    from zaya_core.measure.card_check.tokens import model_checks

    layers = layer_checks() + ([] if is_interpreted() else full_size_layer_checks())  # slow there
    return [*product_checks(), *layers, *attention_checks(), *choice_checks(), *model_checks(folder)]


if __name__ == "__main__":
    main()
