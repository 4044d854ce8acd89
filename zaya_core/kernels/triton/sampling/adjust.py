"""What rows change in their logits before a token is chosen: `adjusted` of `zaya_core/sampling/draw.py`.

All that the rows of a step ask for is one upload; the logits themselves stay as they are, for log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from quant.kernels.triton.launch import Launch
from zaya_core.kernels.triton.sampling.buffers import DrawBuffers
from zaya_core.kernels.triton.sampling.requests import uploaded
from zaya_core.sampling.draw import RowDraw
from zaya_core.sampling.logits import bias_of, expect_allowed, expect_seen

_WORD = 32  # tokens of one word of a mask
_ALIGNED = 4  # words of 16 bytes: where parts of the upload begin, or kernels are compiled anew for each place
_ENTRIES = 256  # of one program


@triton.jit
def is_allowed(masks, mask, n, WORDS, inside):
    """Whether tokens n are in mask number `mask`; -1: all are."""
    word = tl.load(masks + mask * WORDS + n // 32, mask=inside & (mask >= 0), other=-1)
    return ((word >> (n % 32)) & 1) != 0


@triton.jit
def copy_allowed(logits, changed, mask_of_row, masks, V, WORDS, CHUNK: tl.constexpr):
    """`masked` of `sampling/logits.py`. Grid: (chunks, rows)."""
    row = tl.program_id(1)
    n, begin = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK), row.to(tl.int64) * V
    x = tl.load(logits + begin + n, mask=n < V, other=0.0)
    is_open = is_allowed(masks, tl.load(mask_of_row + row), n, WORDS, n < V)
    tl.store(changed + begin + n, tl.where(is_open, x, -float("inf")), mask=n < V)


@triton.jit
def change_entries(
    logits, changed, offsets, ids, penalties, biases, mask_of_row, masks, V, WORDS, ENTRIES: tl.constexpr
):  # fmt: skip
    """`penalise_repetition`, then `biased`, then `masked` of single tokens. Grid: (parts of the longest row, rows)."""
    row = tl.program_id(1)
    at = tl.load(offsets + row) + tl.program_id(0) * ENTRIES + tl.arange(0, ENTRIES)
    inside = at < tl.load(offsets + row + 1)
    n, begin = tl.load(ids + at, mask=inside, other=0), row.to(tl.int64) * V
    x = tl.load(logits + begin + n, mask=inside, other=0.0)
    penalty = tl.load(penalties + at, mask=inside, other=1.0)
    x = tl.where(x > 0, tl.div_rn(x, penalty), x * penalty) + tl.load(biases + at, mask=inside, other=0.0)
    is_open = is_allowed(masks, tl.load(mask_of_row + row), n, WORDS, inside)
    tl.store(changed + begin + n, tl.where(is_open, x, -float("inf")), mask=inside)


@dataclass(frozen=True)
class Change:
    """What one row changes: ids (n) int32, each once, with penalty and bias (2, n) float32; mask (V) bool or None."""

    ids: Tensor
    numbers: Tensor
    allowed: Tensor | None


def change_of(row: RowDraw, vocabulary: int) -> Change | None:
    """None where the row changes nothing. Raises as `adjusted` does."""
    if not (len(row.seen) or row.bias or row.allowed is not None):
        return None
    if len(row.seen):
        expect_seen(row.seen, vocabulary)
    seen, (biased, added) = row.seen.cpu(), bias_of(row.bias, vocabulary)
    if row.allowed is not None:
        expect_allowed(row.allowed, vocabulary)
    only_seen = seen[~torch.isin(seen, biased)]
    numbers = torch.zeros(2, len(only_seen) + len(biased))
    numbers[0] = row.params.repetition_penalty
    numbers[0, len(only_seen) :][~torch.isin(biased, seen)] = 1.0
    numbers[1, len(only_seen) :] = added
    return Change(torch.cat([only_seen, biased]).int(), numbers, row.allowed)


def adjust(logits: Tensor, changes: Sequence[Change | None], buffers: DrawBuffers) -> tuple[Tensor, list[Launch]]:
    """Where the logits (B, V) will be as rows change them, and how they come there. changes: of each row, one at least.

    Raises ValueError for logits that do not fit the buffers, or another number of changes.
    """
    buffers.expect(logits)
    if len(changes) != len(logits):
        raise ValueError(f"{len(logits)} rows of logits need as many changes; they have {len(changes)}")
    counts = [0 if change is None else len(change.ids) for change in changes]
    masks = [change.allowed for change in changes if change is not None and change.allowed is not None]
    offsets, mask_of_row, ids, penalties, biases, words = _uploaded(changes, counts, masks, buffers)
    changed, vocabulary = buffers.changed(), buffers.vocabulary
    sizes = (vocabulary, -(-vocabulary // _WORD))
    copied = (logits, changed, mask_of_row, words, *sizes)
    grid, options = (buffers.chunks, len(logits)), {"CHUNK": buffers.chunk, "num_warps": 4}
    launches = [Launch(copy_allowed, grid, copied, options)]
    if longest := max(counts):
        entries = (logits, changed, offsets, ids, penalties, biases, mask_of_row, words, *sizes)
        grid, options = (-(-longest // _ENTRIES), len(logits)), {"ENTRIES": _ENTRIES, "num_warps": 4}
        launches.append(Launch(change_entries, grid, entries, options))
    return changed, launches


def _uploaded(
    changes: Sequence[Change | None], counts: Sequence[int], masks: Sequence[Tensor], buffers: DrawBuffers
) -> list[Tensor]:
    """Where each row's entries begin (B + 1), which mask is its own (B); ids, penalties, biases (n); masks' words."""
    given = [change for change in changes if change is not None]
    numbers = torch.cat([change.numbers for change in given], 1)
    mask_numbers = iter(range(len(masks)))
    own = [-1 if change is None or change.allowed is None else next(mask_numbers) for change in changes]
    parts = [
        F.pad(torch.tensor(counts, dtype=torch.int32).cumsum(0, dtype=torch.int32), (1, 0)),
        torch.tensor(own, dtype=torch.int32),
        torch.cat([change.ids for change in given]),
        *numbers.view(torch.int32),
        torch.cat([_words(mask) for mask in masks]) if masks else torch.empty(0, dtype=torch.int32),
    ]
    # One word more, so that none is empty.
    padded = [F.pad(part, (0, 1 + -(len(part) + 1) % _ALIGNED)) for part in parts]
    on_card = list(uploaded(torch.cat(padded), buffers.device).split([len(part) for part in padded]))
    on_card[3:5] = [part.view(torch.float32) for part in on_card[3:5]]
    return on_card


def _words(allowed: Tensor) -> Tensor:
    """Of a mask (V) bool: (V / 32, rounded up) int32, the first token the lowest bit."""
    bits = F.pad(allowed.cpu().int(), (0, -len(allowed) % _WORD)).unflatten(0, (-1, _WORD))
    return (bits << torch.arange(_WORD, dtype=torch.int32)).sum(1, dtype=torch.int32)
