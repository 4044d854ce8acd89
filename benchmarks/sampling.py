"""Time to choose one token from 262,272 logits: `python -m benchmarks.sampling [--repeats 200] [--threads 2]`.

Prints a table, the median and the 95th percentile of many rows, and last the medians as one line of JSON. The allocator
is told to keep freed memory, as the command line does at its start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch
from torch import Tensor

from zaya_core.kernels.resolve import resolve_sampling
from zaya_core.machine.memory import keep_freed_memory
from zaya_core.sampling.draw import RowDraw, draw_rows
from zaya_core.sampling.params import RandomKey, SamplingParams

VOCABULARY = 262_272
# Name, parameters, ids that a repetition penalty has seen, log-probabilities reported.
CASES: tuple[tuple[str, SamplingParams, int, int], ...] = (
    ("default", SamplingParams(), 0, 0),
    ("greedy", SamplingParams(temperature=0), 0, 0),
    ("code: 0.6, top-k 20", SamplingParams(temperature=0.6, top_k=20), 0, 0),
    ("RSA: top-p 1", SamplingParams(top_p=1.0), 0, 0),
    ("nothing cut", SamplingParams(top_p=1.0, min_p=0.0), 0, 0),
    ("top-p 0.95 only", SamplingParams(min_p=0.0), 0, 0),
    ("top-p 0.5", SamplingParams(top_p=0.5), 0, 0),
    ("top-p 0.05", SamplingParams(top_p=0.05), 0, 0),
    ("top-k 5000", SamplingParams(top_k=5000), 0, 0),
    ("min-p 0.1", SamplingParams(min_p=0.1), 0, 0),
    ("penalty, 5000 seen", SamplingParams(repetition_penalty=1.1), 5000, 0),
    ("5 log-probabilities", SamplingParams(), 0, 5),
)


def make_logits() -> dict[str, Tensor]:
    """Peaked: some dozens of tokens above min-p, as a language model gives. Flat: nearly all. Equal: all of them."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(VOCABULARY, generator=generator)
    ranks = torch.randperm(VOCABULARY, generator=generator).float() + 1
    return {"peaked": 2 * noise - 3 * ranks.log(), "flat": noise, "equal": torch.zeros(VOCABULARY)}


def time_rows(logits: Tensor, case: tuple[str, SamplingParams, int, int], repeats: int) -> list[float]:
    """Milliseconds of each row, after a few that are not counted."""
    _, params, seen, top_logprobs = case
    sampling, key, ids = resolve_sampling(logits.device), RandomKey(params.seed), torch.arange(0, 7 * seen, 7)
    milliseconds = []
    for step in range(repeats + 5):
        started = time.perf_counter()
        draw_rows(sampling, logits[None], [RowDraw(params, key, step, top_logprobs=top_logprobs, seen=ids)])
        milliseconds.append(1e3 * (time.perf_counter() - started))
    return milliseconds[5:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    print(f"milliseconds a row, V = {VOCABULARY:,}, {arguments.threads} threads, median (95th percentile)\n")
    inputs = make_logits()
    print(f"| {'parameters':20} | " + " | ".join(f"{name:>15}" for name in inputs) + " |")
    print(f"|{'-' * 22}|" + "|".join("-" * 16 + ":" for _ in inputs) + "|")
    medians: dict[str, dict[str, float]] = {}
    for case in CASES:
        rows = {name: time_rows(logits, case, arguments.repeats) for name, logits in inputs.items()}
        medians[case[0]] = {name: round(statistics.median(times), 3) for name, times in rows.items()}
        cells = [f"{statistics.median(t):7.2f} ({statistics.quantiles(t, n=20)[-1]:5.2f})" for t in rows.values()]
        print(f"| {case[0]:20} | " + " | ".join(f"{cell:>15}" for cell in cells) + " |", flush=True)
    print(json.dumps({"vocabulary": VOCABULARY, "threads": arguments.threads, "median_ms": medians}))


if __name__ == "__main__":
    main()
