"""The ids that a known model finds likeliest, position by position, held against those that are published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zaya_core.measure.checkup.finding import Finding, State
from zaya_core.measure.checkup.golden import Golden, Known, bits_of_weights
from zaya_core.model.model import ZayaModel

_TIES: Mapping[str, float] = {"16": 0.5, "8": 1.0, "4": 2.0}  # logits by which rounding weights to so many bits may turn two ids round


@dataclass(frozen=True)
class Miss:
    """A position whose likeliest id is not the known one. lead: how many logits it is ahead of that."""

    position: int
    found: int
    known: int
    lead: float


def compare_likeliest(model: ZayaModel, known: Known) -> Iterator[Finding]:
    """In one pass, then step by step behind it. Nothing for a model of nobody's sizes."""
    if known.golden is None:
        yield Finding("known ids", "none: this is no model whose numbers are published", "ok")
        return
    golden, ids = known.golden, known.golden.ids
    logits = model(torch.tensor([ids]))[0].cpu()
    row = _misses(logits[-len(golden.likeliest) :], golden.likeliest)
    yield _verdict("known ids", "likeliest", row, len(golden.likeliest), model, known)
    greedy = _misses(_forced(model, golden), golden.greedy)
    yield _verdict("greedy", "ids that follow", greedy, len(golden.greedy), model, known)


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


def _verdict(topic: str, what: str, misses: list[Miss], count: int, model: ZayaModel, known: Known) -> Finding:
    golden = known.golden
    assert golden is not None
    bits = bits_of_weights(model.config)
    allowed = golden.misses[bits]
    text = f"{count - len(misses)} of {count} {what} as in {golden.source}"
    if misses:
        worst = max(misses, key=lambda miss: miss.lead)
        text += f"; at {worst.position} {worst.found} leads {worst.known} by {worst.lead:.2f}"
    if not known.is_named:
        return _of_another_name(topic, text, len(misses) <= allowed, golden)
    state = _state(misses, allowed, _TIES[bits])
    if state == "ok" and allowed:
        text += f" ({count - allowed} or more with weights of {bits} bits)"
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


def _of_another_name(topic: str, text: str, agrees: bool, golden: Golden) -> Finding:
    if agrees:
        return Finding(topic, f"{text}: it is {golden.name} under another name")
    return Finding(topic, f"{text}: not {golden.name}, or a damaged one; its name says nothing, so it is not judged", "note")
