"""The program: checks of kernels, then of whole models, then of replayed graphs, on one device."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from zaya_core.machine.gpus import first_line
from zaya_core.measure.card_check.check import Check, outcome_of
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
    say_doing("the card")
    try:
        torch.ones(1, device=device).item()
    except Exception as error:  # a driver, a card that another program holds: no fault of the kernels
        say_unchecked(first_line(error))
        return
    with tempfile.TemporaryDirectory() as folder:
        _run(device, Path(folder))


def _run(device: torch.device, folder: Path) -> None:
    outcome = outcome_of(_checks(folder), device)
    if outcome is None:
        return
    say_result(outcome.failed, outcome.worst)
    if not outcome.failed and device.type == "cuda" and not torch.version.hip:  # on ROCm a replay may do harm
        from zaya_core.measure.card_check.tokens import graphs_fault

        say_doing("the recorded step as a graph")
        fault = graphs_fault(device)
        say_result(outcome.failed, outcome.worst, fault is None, fault)


def _checks(folder: Path) -> list[Check]:
    """Kernels first: what fails in one makes a model fail, too, and has a name of its own."""
    from zaya_core.measure.card_check.attention import attention_checks
    from zaya_core.measure.card_check.choices import choice_checks
    from zaya_core.measure.card_check.layer import layer_checks
    from zaya_core.measure.card_check.products import product_checks
    from zaya_core.measure.card_check.tokens import model_checks

    kernels = [*product_checks(), *layer_checks(), *attention_checks(), *choice_checks()]
    return kernels + model_checks(folder)


if __name__ == "__main__":
    main()
