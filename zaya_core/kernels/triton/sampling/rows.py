"""The choice of tokens on a card by kernels: all rows at once, nothing sorted, and read by the host once as a rule."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from quant.kernels.pointers import rows_of
from quant.kernels.triton.launch import Launch, run_all
from zaya_core.kernels.triton.sampling.adjust import Change, adjust, change_of
from zaya_core.kernels.triton.sampling.buffers import ANSWER, CHUNK, IS_DONE, ROUNDS, DrawBuffers
from zaya_core.kernels.triton.sampling.draw import begin_drawing, draw_round
from zaya_core.kernels.triton.sampling.normalise import sum_chunks
from zaya_core.kernels.triton.sampling.requests import SAMPLED, WANTED, request_of, requests_of, undrawn
from zaya_core.sampling.draw import Drawn, RowDraw
from zaya_core.sampling.logits import expect_logits
from zaya_core.sampling.sorted import draw_sorted, drawn_of, likeliest_pairs
from zaya_core.whole_numbers import expect_whole

AT_ONCE = 2  # rounds before the host looks; at the default top-p one row of 400 needs more


class TritonSampling:
    """Chooses tokens for the rows of one model at a time. State: buffers, which later rows find as they were made.

    chunk: logits of one program, a power of two. rounds: of proposing a token, 2 or more, before a row is sorted.
    """

    def __init__(self, chunk: int = CHUNK, rounds: int = ROUNDS):
        self._chunk, self._rounds = chunk, rounds
        self._buffers: DrawBuffers | None = None

    def draw(self, logits: Tensor, rows: Sequence[RowDraw]) -> list[Drawn | Exception]:
        """The next token of each row, or why it has none, as `draw_sorted`. logits: (B, V) float32.

        One synchronisation, and one more for every two further rounds that a row needs whose token is refused. A row
        that asks for what there is not reaches no kernel.
        """
        asked = [_asked(own, row) for own, row in zip(logits, rows, strict=True)]
        errors = {place: one for place, one in enumerate(asked) if isinstance(one, Exception)}
        if len(errors) < len(rows):
            logits = rows_of(logits, "logits")
            able = [undrawn(logits.shape[1], AT_ONCE + 1) if isinstance(one, Exception) else one[0] for one in asked]
            changes = [None if isinstance(one, Exception) else one[1] for one in asked]
            drawn = _Draw(logits, rows, able, changes, self._buffers_for(logits)).drawn()
        else:
            drawn = []
        return [errors[place] if place in errors else drawn[place] for place in range(len(rows))]

    def _buffers_for(self, logits: Tensor) -> DrawBuffers:
        if self._buffers is None or not self._buffers.fit(logits):
            self._buffers = DrawBuffers(len(logits), logits.shape[1], logits.device, self._chunk, self._rounds)
        return self._buffers


def _asked(logits: Tensor, row: RowDraw) -> tuple[list[float], Change | None] | Exception:
    """A row's request and what it changes in its logits (V), or what is wrong with either."""
    try:
        expect_logits(logits)
        if row.forced is not None:
            expect_whole("the forced id", row.forced, 0, len(logits) - 1)
        change = change_of(row, len(logits)) if row.forced is None else None
        return request_of(row, len(logits), AT_ONCE + 1), change
    except Exception as error:
        return error


class _Draw:
    """One token for each row. State: the rounds so far, and the requests, which get a random number for each."""

    def __init__(
        self,
        logits: Tensor,
        rows: Sequence[RowDraw],
        columns: list[list[float]],
        changes: Sequence[Change | None],
        buffers: DrawBuffers,
    ):
        self._logits, self._rows, self._columns, self._buffers = logits, rows, columns, buffers
        self._changed: Tensor | None = None
        self._rounds = 0
        self._launches: list[Launch] = []
        if any(change is not None for change in changes):
            self._changed, self._launches = adjust(logits, changes, buffers)

    def drawn(self) -> list[Drawn | Exception]:
        """All rows' answers."""
        requests = requests_of(self._columns, self._buffers)
        both = self._logits, self._changed, requests, self._buffers
        self._launches += [sum_chunks(*both), begin_drawing(*both)]
        if any(column[WANTED] == SAMPLED for column in self._columns):
            self._add_rounds(requests)
        read = self._read(likeliest_pairs(self._logits, self._rows))
        while (left := _unfinished(read)) and self._rounds < self._buffers.rounds:
            self._add_numbers(left)
            self._add_rounds(requests_of(self._columns, self._buffers))
            for numbers, again in zip(read, self._read(), strict=True):
                numbers[:ANSWER] = again
        drawn = [drawn_of(numbers[1:], row) for numbers, row in zip(read, self._rows, strict=True)]
        for place, one in zip(left, self._drawn_sorted(left), strict=True):
            drawn[place] = one
        return drawn

    def _add_rounds(self, requests: Tensor) -> None:
        end = min(self._rounds + AT_ONCE, self._buffers.rounds)
        for number in range(self._rounds, end):
            self._launches += draw_round(self._logits, self._changed, requests, self._buffers, number)
        self._rounds = end

    def _add_numbers(self, left: Sequence[int]) -> None:
        """Of rows that are not done, for the next rounds."""
        numbers = range(self._rounds + 1, min(self._rounds + AT_ONCE, self._buffers.rounds) + 1)
        for place, (column, row) in enumerate(zip(self._columns, self._rows, strict=True)):
            column += [row.key.uniform(row.step, number) if place in left else 0.0 for number in numbers]

    def _read(self, pairs: Sequence[Tensor] = ()) -> list[list[float]]:
        """Launch what is to be launched, and wait: of each row its answer, then the pairs' numbers."""
        run_all(self._launches, self._buffers.device)
        self._launches = []
        answers = self._buffers.answers[: len(self._rows)]
        read: list[list[float]] = torch.stack([*answers.unbind(1), *(one.double() for one in pairs)], 1).tolist()
        return read

    def _drawn_sorted(self, left: Sequence[int]) -> list[Drawn | Exception]:
        """Rows that are not done after all rounds, each by a random number that no round has seen."""
        if not left:
            return []
        logits = torch.stack([self._logits[place] for place in left])
        return draw_sorted(logits, [self._rows[place] for place in left], self._rounds)


def _unfinished(answers: Sequence[Sequence[float]]) -> list[int]:
    return [place for place, answer in enumerate(answers) if not answer[IS_DONE]]
