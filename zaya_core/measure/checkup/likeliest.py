"""The ids that a known model finds likeliest, position by position, held against those that are published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zaya_core.measure.checkup.finding import Finding, State
from zaya_core.measure.checkup.golden import Golden, Known, bits_of_weights
from zaya_core.model.model import ZayaModel

# Logits by which rounding of weights of so many bits may turn two ids round.
_TIES: Mapping[str, float] = {"16": 0.5, "8": 1.0, "4": 2.0}


@dataclass(frozen=True)
class Miss:
    """A position whose likeliest id is not the known one. lead: how many logits it is ahead of that."""

    position: int
    found: int
    known: int
    lead: float


def compare_likeliest(model: ZayaModel, known: Known) -> Iterator[Finding]:
    """In one pass, then step by step behind it. Nothing for a model of nobody's sizes."""
    golden = known.golden
    if golden is None:
        return
    logits = model(torch.tensor([golden.ids]))[0, -len(golden.likeliest) :].cpu()
    checks = [("known ids", "likeliest", golden.likeliest, logits)]
    checks += [("greedy", "that follow", golden.greedy, _forced(model, golden))]
    bits = bits_of_weights(model.config)
    for topic, what, expected, found in checks:
        finding = _verdict(topic, what, _misses(found, expected), expected, bits, golden)
        if finding.state != "ok" and not known.is_named:
            yield Finding(topic, f"{finding.text}; it is called otherwise, hence not judged", "note")
            return
        yield finding


def _forced(model: ZayaModel, golden: Golden) -> Tensor:
    """(tokens, V): behind `ids` and each known id, one step at a time, so that one miss has no others behind it."""
    cache = model.new_cache()
    rows = [model(torch.tensor([golden.ids]), cache, last_only=True)[0, -1]]
    rows += [model(torch.tensor([[id_]]), cache)[0, -1] for id_ in golden.greedy[:-1]]
    return torch.stack(rows).cpu()


def _misses(logits: Tensor, known: Sequence[int]) -> list[Miss]:
    """logits: (T, V), known (T)."""
    found = logits.argmax(-1).tolist()
    return [
        Miss(position, one, other, float(row[one] - row[other]))
        for position, (row, one, other) in enumerate(zip(logits, found, known, strict=True))
        if one != other
    ]


def _verdict(topic: str, what: str, misses: list[Miss], expected: Sequence[int], bits: str, golden: Golden) -> Finding:
    allowed = golden.misses[bits]
    text = f"{len(expected) - len(misses)} of {len(expected)} {what} as in {golden.source}"
    if misses:
        worst = max(misses, key=lambda miss: miss.lead)
        text += f"; at {worst.position} {worst.found} leads {worst.known} by {worst.lead:.2f}"
    state = _state(misses, allowed, _TIES[bits])
    if misses and allowed:
        text += f" ({len(expected) - allowed} or more with weights of {bits} bits)"
    return Finding(topic, text + _ADVICE[state], state)


_ADVICE: dict[State, str] = {
    "ok": "",
    "note": ": a near tie, which rounding may turn round",
    "problem": ": other weights, damaged files, or a fault of zaya",
}


def _state(misses: list[Miss], allowed: int, tie: float) -> State:
    if len(misses) <= allowed:
        return "ok"
    return "note" if len(misses) == allowed + 1 and all(miss.lead <= tie for miss in misses) else "problem"
