"""One row whose tokens are chosen, as the Engine has them chosen, by a way of working on logits."""

from __future__ import annotations

from zaya_core.sampling.draw import RowDraw, draw_row
from zaya_core.sampling.seen import SeenIds


class SampledRow:
    """State: the ids that the row contains."""

    def __init__(self, sampling, params, key, top_logprobs=0, spared=frozenset()):
        self.sampling, self.params, self.key, self.top_logprobs = sampling, params, key, top_logprobs
        self.seen = SeenIds(params.repetition_penalty, spared)

    def observe(self, *ids):
        self.seen.add(*ids)

    def sample(self, logits, step, forced=None):
        asked = RowDraw(self.params, self.key, step, forced, self.top_logprobs, self.seen.tensor)
        return draw_row(self.sampling, logits, asked)
