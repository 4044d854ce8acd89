"""How tokens are chosen: what a request asks for, and the random numbers of a row, keyed and not drawn in sequence."""

from __future__ import annotations

import hashlib
import reprlib
import struct
from dataclasses import dataclass

from zaya_core.errors import UsageError
from zaya_core.whole_numbers import is_number, is_whole

LEAST_TEMPERATURE = 1e-30  # a smaller one could not be told from it


@dataclass(frozen=True)
class SamplingParams:
    """How to choose tokens. Defaults: the model card's, with the report's min-p (appendix E).

    `temperature` 0, `top_p` 0 and `top_k` 1 are greedy. `top_k` 0, `top_p` 1 and `min_p` 0 are off. The repetition
    penalty divides, and is for prompt and answer; the other two are OpenAI's: they are subtracted from the logits of
    what was generated, once and for each time (`additions.py`). Raises UsageError when out of range.
    """

    temperature: float = 1.0
    top_p: float = 0.95
    top_k: int = 0
    min_p: float = 1e-5
    repetition_penalty: float = 1.0
    seed: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        penalties = ("presence_penalty", "frequency_penalty")
        for name in ("temperature", "top_p", "min_p", "repetition_penalty", *penalties):
            _require(is_number(getattr(self, name)), name, getattr(self, name), "a number")
        for name in ("top_k", "seed"):
            _require(is_whole(getattr(self, name)), name, getattr(self, name), "a whole number")
        _require(0 <= self.temperature <= 1e6, "temperature", self.temperature, "from 0 (the likeliest token) to 10^6")
        _require(0 <= self.top_p <= 1, "top_p", self.top_p, "from 0 (the likeliest token) to 1 (off)")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (off) or more")
        _require(0 <= self.min_p < 1, "min_p", self.min_p, "at least 0 (off) and below 1")
        penalty = self.repetition_penalty
        _require(0.01 <= penalty <= 100, "repetition_penalty", penalty, "from 0.01 to 100 (1 is off)")
        for name in penalties:
            _require(-2 <= getattr(self, name) <= 2, name, getattr(self, name), "from -2 to 2 (0 is off)")
        _expect_key_part("seed", self.seed)

    @property
    def is_greedy(self) -> bool:
        """Whether only the likeliest token is kept, of equals the first, so that nothing is drawn."""
        return self.temperature == 0 or self.top_p == 0 or self.top_k == 1


@dataclass(frozen=True)
class RandomKey:
    """Names the random numbers of one row; two rows with different keys have independent numbers.

    Raises UsageError for a part that is not from 0 to 2^64 - 1.
    """

    seed: int
    stage: int = 0
    candidate: int = 0

    def __post_init__(self) -> None:
        for name in ("seed", "stage", "candidate"):
            _expect_key_part(name, getattr(self, name))

    def uniform(self, step: int, draw: int = 0) -> float:
        """A number in [0, 1) that depends on the key, the step and the draw only. Raises UsageError as the key does."""
        _expect_key_part("step", step)
        _expect_key_part("draw", draw)
        message = struct.pack("<QQQQQ", self.seed, self.stage, self.candidate, step, draw)
        bits = int.from_bytes(hashlib.blake2b(message, digest_size=8).digest(), "little")
        return (bits >> 11) / (1 << 53)


def _expect_key_part(name: str, value: object) -> None:
    in_range = is_whole(value) and 0 <= value < 1 << 64
    _require(in_range, name, value, "a whole number from 0 to 2^64 - 1")


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise UsageError(f"{name} is {reprlib.repr(value)}; it must be {allowed}.")
