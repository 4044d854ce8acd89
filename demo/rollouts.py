"""Answers of a model to many prompts at once, through transformers' generate."""

from __future__ import annotations

import re

import torch
from tokenizers import Tokenizer
from transformers import ZayaForCausalLM

from demo.tokenizer import IM_END, PAD

LONGEST_ANSWER = 320
BATCH = 128
BOXED = re.compile(r"\\boxed\{(-?\d+)\}")


def boxed_answer(text: str) -> str | None:
    """The number in the last box, if there is one."""
    found = BOXED.findall(text)
    return found[-1] if found else None


def pad_left(rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask of prompts of different lengths that all end at the same column."""
    width = max(map(len, rows))
    ids = torch.tensor([[PAD] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


@torch.no_grad()
def answer_all(
    model: ZayaForCausalLM,
    tokenizer: Tokenizer,
    prompts: list[str],
    temperature: float,
    seed: int = 0,
    batch: int = BATCH,
) -> list[str]:
    """One completion for each rendered prompt, without its end token; temperature 0 is greedy."""
    torch.manual_seed(seed)
    rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(prompts, add_special_tokens=False)]
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    options = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        if temperature
        else {"do_sample": False}
    )
    completions = [""] * len(rows)
    for start in range(0, len(rows), batch):
        indices = by_length[start : start + batch]
        ids, mask = pad_left([rows[i] for i in indices])
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=LONGEST_ANSWER,
            eos_token_id=IM_END,
            pad_token_id=PAD,
            **options,
        )
        for i, row in zip(indices, out[:, ids.shape[1] :].tolist(), strict=True):
            end = row.index(IM_END) if IM_END in row else len(row)
            completions[i] = tokenizer.decode(row[:end], skip_special_tokens=False)
    return completions
