"""Log-probabilities of a prompt's own tokens, from the logits of its chunks."""

from __future__ import annotations

from torch import Tensor

from zaya_core.engine.events import PromptScored, TokenEvent
from zaya_core.engine.row import Row
from zaya_core.model.steps import Steps
from zaya_core.sampling.draw import RowDraw
from zaya_core.sampling.params import RandomKey, SamplingParams

_UNDRAWN = SamplingParams(temperature=0), RandomKey(0)  # every token is forced


class PromptScores:
    """Of one chunk of a row's prompt, which begins where the row is now. State: the tokens scored so far."""

    def __init__(self, row: Row, steps: Steps):
        self._row, self._steps = row, steps
        self._start, self._position = row.scored + 1, row.position
        self._tokens: list[TokenEvent] = []

    def take(self, column: int, logits: Tensor) -> None:
        """The logits (1, n, V) after n tokens of the chunk, from `column` on; each scores the token behind.

        Those of tokens that were told already, before the row waited again, are not looked at. Raises CheckpointError
        for logits that are no numbers.
        """
        first = self._position + column + 1  # the position of the token that the first of these logits are about
        wanted = range(max(first, self._start), min(first + logits.shape[1], len(self._row.prompt)))
        if not wanted:
            return
        count = self._row.request.prompt_logprobs or 0
        asked = [RowDraw(*_UNDRAWN, 0, forced=self._row.prompt[at], top_logprobs=count) for at in wanted]
        for drawn in self._steps.draw(logits[0, wanted.start - first : wanted.stop - first], asked):
            if isinstance(drawn, Exception):
                raise drawn
            self._tokens.append(TokenEvent(self._row.id, drawn.token_id, drawn.logprob, drawn.top_logprobs))

    def told(self) -> list[PromptScored]:
        """The event, none without a token; the row notes that they were told."""
        if not self._tokens:
            return []
        self._row.scored += len(self._tokens)
        return [PromptScored(self._row.id, self._start, tuple(self._tokens))]
