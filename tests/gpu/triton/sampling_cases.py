"""The launches that choose tokens from rows of ZAYA1-8B's vocabulary, to be compiled for cards that are not here."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quant.kernels.triton.launch import Launch
from zaya_core.kernels.triton.sampling.adjust import Change, adjust
from zaya_core.kernels.triton.sampling.buffers import DrawBuffers
from zaya_core.kernels.triton.sampling.draw import begin_drawing, draw_round
from zaya_core.kernels.triton.sampling.normalise import sum_chunks
from zaya_core.kernels.triton.sampling.requests import lines_of

ROWS = 4


def choice_of_tokens(vocabulary: int) -> Iterator[tuple[str, Launch]]:
    """Of a plain row, and of one that changes its logits."""
    meta = torch.device("meta")
    logits, buffers = torch.empty(ROWS, vocabulary, device=meta), DrawBuffers(ROWS, vocabulary, meta)
    ids, numbers = torch.empty(300, dtype=torch.int32), torch.empty(2, 300)
    change = Change(ids, numbers, torch.ones(vocabulary, dtype=torch.bool))
    changed, (copied, entries) = adjust(logits, [change] * ROWS, buffers)
    yield "copied logits", copied
    yield "changed entries", entries
    requests = torch.empty(lines_of(buffers), buffers.room, dtype=torch.float64, device=meta)
    for name, chosen_from in (("", None), (" changed", changed)):
        yield f"sums of chunks{name}", sum_chunks(logits, chosen_from, requests, buffers)
    yield "first proposal", begin_drawing(logits, None, requests, buffers)
    before, judged = draw_round(logits, None, requests, buffers, 0)
    yield "sums before", before
    yield "judged proposal", judged
