"""What the choice of tokens keeps on a card between its launches: allocated once, for up to so many rows."""

from __future__ import annotations

import torch
from torch import Tensor

from quant.kernels.pointers import described
from quant.kernels.triton.launch import power_of_two

CHUNK = 1024  # logits of one program
ROUNDS = 8  # of proposing a token and judging it
ROWS = 16  # room for rows comes in multiples of it, so that what lies behind begins at a multiple of 16 bytes
# Of an answer, float64.
IS_DONE, ID, LOGIT, NORMALISER, WHOLE = range(5)
ANSWER = 5


class DrawBuffers:
    """For rows of V logits in chunks; R: room for rows. Chunk sums are float32, their places (R, chunks).

    State: what the last launches left. `picked` (rounds + 1, R) int32: the token that each round judges, -1 for a row
    that has its own. `answers` (R, 5) float64: 1 if chosen, id, its logit, log(sum(e^logits)), the sum of all weights.
    """

    def __init__(self, rows: int, vocabulary: int, device: torch.device, chunk: int = CHUNK, rounds: int = ROUNDS):
        self.room, self.vocabulary, self.device = -(-power_of_two(rows) // ROWS) * ROWS, vocabulary, device
        self.chunk, self.rounds, self.chunks = chunk, rounds, -(-vocabulary // chunk)
        self.padded = power_of_two(self.chunks)
        self.maxima, self.sums, self.own_maxima, self.own_sums, self.masses = (
            self._empty(self.chunks, dtype=torch.float32) for _ in range(5)
        )
        self.firsts, self.counts = (self._empty(self.chunks, dtype=torch.int32) for _ in range(2))
        self.tops = self._empty(dtype=torch.float32)
        self.likeliest = self._empty(dtype=torch.int32)
        self.picked = torch.empty((rounds + 1, self.room), dtype=torch.int32, device=device)
        self.answers = self._empty(ANSWER, dtype=torch.float64)
        self._changed: Tensor | None = None

    def _empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty((self.room, *shape), dtype=dtype, device=self.device)

    def changed(self) -> Tensor:
        """(R, V) float32: room for logits that rows have changed; allocated when first asked for."""
        if self._changed is None:
            self._changed = self._empty(self.vocabulary, dtype=torch.float32)
        return self._changed

    def fit(self, logits: Tensor) -> bool:
        """Whether they have room for the rows of logits (B, V)."""
        return len(logits) <= self.room and logits.shape[1] == self.vocabulary and logits.device == self.device

    def expect(self, logits: Tensor) -> None:
        """Raises ValueError for what is not (B, V) float32, contiguous, B from 1 to R, on the same device."""
        if not (
            logits.dim() == 2
            and 1 <= len(logits) <= self.room
            and logits.shape[1] == self.vocabulary
            and logits.dtype == torch.float32
            and logits.is_contiguous()
            and logits.device == self.device
        ):
            raise ValueError(
                f"logits must be (1 to {self.room}, {self.vocabulary}) float32, contiguous, on {self.device}; "
                f"they are {described(logits)}"
            )
