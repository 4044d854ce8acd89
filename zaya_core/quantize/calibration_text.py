"""The text on which calibration measures: the built-in one, or one that a person gives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from zaya_core.errors import UsageError
from zaya_core.files.bounded_file import decoded, read_file
from zaya_core.text.token_names import TURN_END_ID
from zaya_core.text.tokenizer import Tokenizer

BUILT_IN = Path(__file__).parents[1] / "bundled" / "calibration.jsonl"
ROW = 512  # tokens of one row
MOST_TOKENS = 16_384  # of a text that a person gives; the built-in one is about as long in ZAYA's tokens
_LEAST_TOKENS = 32
_MOST_BYTES = 64 << 20


@dataclass(frozen=True)
class CalibrationText:
    """Token rows of equal length, and how to name them. ids: (rows, T) int64."""

    ids: Tensor
    name: str
    sha256: str


def read_calibration_text(path: Path | None, tokenizer: Tokenizer) -> CalibrationText:
    """The built-in text (None), or the first 16,384 tokens of a `.jsonl` of conversations or of a plain text.

    A conversation is an object with the texts `question`, `thinking` and `answer`.
    Raises UsageError for a file that is missing, not UTF-8, not as described or too short.
    """
    source = path or BUILT_IN
    content = _read(source)
    most = None if path is None else MOST_TOKENS
    ids: list[int] = []
    if source.suffix == ".jsonl":
        for entry in _entries(source, content):
            ids += conversation_ids(entry, tokenizer)
            if most is not None and len(ids) >= most:
                break
    else:
        ids = tokenizer.encode(content[: 64 * MOST_TOKENS])
    ids = ids[:most]
    if len(ids) < _LEAST_TOKENS:
        raise UsageError(f"{source} has {len(ids)} tokens; calibration needs {_LEAST_TOKENS} or more.")
    row = min(ROW, len(ids))
    rows = torch.tensor(ids[: len(ids) // row * row]).view(-1, row)
    digest = hashlib.sha256(content.encode()).hexdigest()
    return CalibrationText(rows, "built-in" if path is None else source.name, digest)


def _read(source: Path) -> str:
    name = f"The calibration text {source}"
    return decoded(read_file(source, _MOST_BYTES, name), name)


def _entries(source: Path, content: str) -> Iterator[dict[str, str]]:
    for number, line in enumerate(content.split("\n"), 1):
        try:
            entry = json.loads(line) if line.strip() else None
        except ValueError:
            entry = False
        if entry is None:
            continue
        keys = ("question", "thinking", "answer")
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in keys):
            raise UsageError(
                f"{source}, line {number}: an object with the texts question, thinking and answer is needed."
            )
        yield entry


def conversation_ids(entry: Mapping[str, str], tokenizer: Tokenizer) -> list[int]:
    """A question, its thinking and its answer as the chat template has them, up to the end of the turn."""
    prompt = tokenizer.render_chat([{"role": "user", "content": entry["question"]}])
    think_end = tokenizer.encode("</think>") if tokenizer.think_end_id is None else [tokenizer.think_end_id]
    turn_end = [TURN_END_ID] if TURN_END_ID in tokenizer.stop_ids else []
    thinking, answer = tokenizer.encode(f"{entry['thinking']}\n"), tokenizer.encode(f"\n\n{entry['answer']}")
    return [*prompt, *thinking, *think_end, *answer, *turn_end]
