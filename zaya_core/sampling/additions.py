"""What is added to the logits of some ids: a request's bias, and its penalties on what was generated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set

from zaya_core.sampling.params import SamplingParams


class Additions:
    """`by_id`, for `RowDraw.bias`: bias - frequency_penalty * count - presence_penalty, the last where count is not 0.

    count: how often the id was generated; a prompt's ids do not count. Summed in float64, so that one addition to a
    float32 logit rounds once, whoever computes it. spared: ids that the penalties leave alone, as `SeenIds` does.
    """

    def __init__(self, params: SamplingParams, bias: Mapping[int, float], spared: Set[int] = frozenset()):
        self._presence, self._frequency = params.presence_penalty, params.frequency_penalty
        self._bias, self._spared = bias, spared
        self._counts: Counter[int] = Counter()
        self.by_id: dict[int, float] = {id_: added for id_, added in bias.items() if added}

    def count(self, *ids: int) -> None:
        """Note ids that were generated."""
        if not (self._presence or self._frequency):
            return
        for id_ in ids:
            if id_ not in self._spared:
                self._counts[id_] += 1
                penalty = self._frequency * self._counts[id_] + self._presence
                self.by_id[id_] = self._bias.get(id_, 0.0) - penalty
