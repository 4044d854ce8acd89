"""What is known of a published model: ids that its tokenizer gives, and those that it finds likeliest.

ZAYA1-8B's are facts of the transformers test of ZAYA; nothing of its weights was looked at here. Those of the bundled
model are made by `python -m demo.golden`, in float32.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from zaya_core.config.model_config import ModelConfig
from zaya_core.config.weight_formats import bits_of

_BUNDLED = Path(__file__).parents[2] / "bundled"


@dataclass(frozen=True)
class Golden:
    """Known numbers of one model, as its JSON file has them.

    source: who says so.
    names: a pattern of what the model is called where others have its sizes; None where none has.
    sizes: by which it is found; settings: such as no shape shows.
    text, text_ids: what plain text encodes to.
    tokens: ids of control tokens; probable_tokens: of such as nobody published.
    ids: a text; likeliest: the ids after its last ones, position by position; greedy: the ids that follow.
    misses: by bits of a weight, how many of either may differ.
    likeliest_at, log_probabilities_at: some ids at each position of `ids` and `greedy`.
    closeness: by bits of a weight, the most KL from those.
    last_logits: of the last three ids of the vocabulary behind the last three of `ids`, and how far off is odd.
    conversations: texts like those it was trained on; none: it reads prose.
    perplexity: up to which it is healthy, and from which broken.
    ranges: of the values of small tensors, by the ends of their names.
    """

    name: str
    source: str
    names: str | None
    sizes: Mapping[str, int | None]
    settings: Mapping[str, float | bool]
    text: str
    text_ids: Sequence[int]
    tokens: Mapping[str, int]
    probable_tokens: Mapping[str, int]
    ids: Sequence[int]
    likeliest: Sequence[int]
    greedy: Sequence[int]
    misses: Mapping[str, int]
    likeliest_at: Sequence[Sequence[int]]
    log_probabilities_at: Sequence[Sequence[float]]
    closeness: Mapping[str, float]
    last_logits: tuple[Sequence[float], float] | None
    conversations: Sequence[Mapping[str, str]]
    perplexity: tuple[float, float]
    ranges: Mapping[str, tuple[float, float]]

    def has_sizes_of(self, config: ModelConfig) -> bool:
        """Whether a model has the sizes of this one."""
        return all(getattr(config, name) == size for name, size in self.sizes.items())

    def is_called(self, names: Iterable[str]) -> bool:
        """Whether one of the names is the model's: `Zyphra/ZAYA1-8B`, `Zyphra--ZAYA1-8B-int4`; case does not matter."""
        if self.names is None:
            return True
        return any(re.fullmatch(self.names, re.split("/|--", name)[-1], re.IGNORECASE) for name in names)


@dataclass(frozen=True)
class Known:
    """What is known of a model. golden: None where its sizes are nobody's. is_named: whether it is called so, too."""

    golden: Golden | None
    is_named: bool

    @property
    def judge(self) -> Golden | None:
        """By which a model must be judged."""
        return self.golden if self.is_named else None


NOBODY = Known(None, False)


def known(config: ModelConfig, names: Iterable[str]) -> Known:
    """Which published model this is, by its sizes and by what it is called."""
    for one in _all():
        if one.has_sizes_of(config):
            return Known(one, one.is_called(names))
    return NOBODY


def bits_of_weights(config: ModelConfig) -> str:
    """16, 8 or 4, as a key: of the experts, which are most of a model."""
    bits = 16.0 if config.quantization is None else bits_of(config.quantization.experts)
    return "16" if bits > 12 else "8" if bits > 6 else "4"


@cache
def _all() -> tuple[Golden, ...]:
    files = sorted(_BUNDLED.glob("golden-*.json"))
    return tuple(Golden(**json.loads(path.read_text(encoding="utf-8"))) for path in files)
