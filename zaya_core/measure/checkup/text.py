"""The texts that a model reads for its checks, as ids: plain prose, or what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zaya_core.measure.checkup.golden import Golden
from zaya_core.quantize.calibration_text import conversation_ids
from zaya_core.text.tokenizer import Tokenizer

PROSE = (Path(__file__).parents[2] / "bundled" / "prose.txt").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Reading:
    """One text. `ids` from `first` on are what the model should foresee."""

    ids: list[int]
    first: int


def readings(tokenizer: Tokenizer, golden: Golden | None) -> tuple[str, list[Reading]]:
    """What kind of text, and the texts. Raises the errors of rendering."""
    if golden is not None and golden.conversations:
        return "sums like its training's", [_conversation(tokenizer, one) for one in golden.conversations]
    start = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return "plain English", [Reading([*start, *tokenizer.encode(PROSE)], 1)]


def _conversation(tokenizer: Tokenizer, entry: Mapping[str, str]) -> Reading:
    prompt = tokenizer.render_chat([{"role": "user", "content": entry["question"]}])
    return Reading(conversation_ids(entry, tokenizer), len(prompt))
