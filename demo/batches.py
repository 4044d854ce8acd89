"""Batches of training examples: drawn from a seeded stream, tokenized, and put together with others of like length."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from demo.examples import Example, draw_example
from demo.problems import training_problems
from demo.tokenizer import PAD

# Few widths, because each one is compiled once; all batches hold about the same number of tokens.
WIDTHS = (96, 128, 160, 224, 320, 448, 640, 896, 1152)
BATCH_TOKENS = 6144
POOL = 1024  # examples drawn and tokenized at a time


class Batch(NamedTuple):
    """Right-padded ids (B, T) and, at each position, whether it is part of a completion."""

    ids: Tensor
    is_completion: Tensor


class Encoded(NamedTuple):
    prompt: list[int]
    completion: list[int]


def encode(tokenizer: Tokenizer, examples: list[Example]) -> list[Encoded]:
    prompts = tokenizer.encode_batch_fast([e.prompt for e in examples], add_special_tokens=False)
    completions = tokenizer.encode_batch_fast([e.completion for e in examples], add_special_tokens=False)
    return [Encoded(p.ids, c.ids) for p, c in zip(prompts, completions, strict=True)]


def collate(rows: list[Encoded], width: int) -> Batch:
    ids = torch.full((len(rows), width), PAD)
    is_completion = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor(prompt + completion)
        is_completion[i, len(prompt) : end] = True
    return Batch(ids, is_completion)


def training_batches(
    tokenizer: Tokenizer,
    seed: int,
    aggregation_share: Callable[[], float],
    first_pool: int = 0,
) -> Iterator[tuple[int, Batch]]:
    """An endless stream of (pool number, batch); the share is asked anew for each pool."""
    waiting: dict[int, list[Encoded]] = {width: [] for width in WIDTHS}
    pool = first_pool
    while True:
        rng = random.Random(f"train:{seed}:{pool}")
        problems = training_problems(rng)
        share = aggregation_share()
        for row in encode(tokenizer, [draw_example(rng, problems, share) for _ in range(POOL)]):
            width = next((w for w in WIDTHS if len(row.prompt) + len(row.completion) <= w), None)
            if width is None:  # a handful of the longest aggregation prompts
                continue
            rows = waiting[width]
            rows.append(row)
            if len(rows) == BATCH_TOKENS // width:
                yield pool, collate(rows, width)
                waiting[width] = []
        pool += 1
