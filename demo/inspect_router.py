"""Show how the experts of a model folder are used: shares per layer and router entropy, printed and as a picture.

python -m demo.inspect_router --picture demo/experts.png
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path
from typing import NamedTuple

import matplotlib
import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import ZayaForCausalLM

from demo.batches import collate, encode
from demo.evaluate import BUNDLED
from demo.examples import Example, aggregation_example, render, thought_then_answer
from demo.forward import TrainingForward
from demo.problems import held_out, trace
from demo.tokenizer import PAD

matplotlib.use("Agg")
from matplotlib import pyplot  # the backend is chosen first: there may be no display

DIRECT_PROBLEMS, AGGREGATION_PROBLEMS = 400, 100


class RouterUse(NamedTuple):
    """shares: (L, E + 1) of tokens by class, the last one skips; entropy: (L,) mean of the softmax, in bits."""

    shares: Tensor
    entropy: Tensor


def held_out_examples() -> list[Example]:
    problems, rng = held_out(DIRECT_PROBLEMS), random.Random("router")
    direct = [Example(render(p.question), thought_then_answer(trace(p.expression))) for p in problems]
    stream = iter(problems)
    return direct + [aggregation_example(rng, stream) for _ in range(AGGREGATION_PROBLEMS)]


@torch.no_grad()
def measure(folder: Path, rows_at_once: int = 50) -> RouterUse:
    """Route all tokens of held-out examples, prompts included."""
    model = ZayaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    rows = encode(Tokenizer.from_file(str(folder / "tokenizer.json")), held_out_examples())
    forward = TrainingForward(model, torch.float32, is_compiled=False)
    layers, classes = model.config.num_hidden_layers, model.config.num_experts + 1
    counts, entropy, tokens = torch.zeros(layers, classes), torch.zeros(layers), 0
    for start in range(0, len(rows), rows_at_once):
        chunk = rows[start : start + rows_at_once]
        ids = collate(chunk, max(len(p) + len(c) for p, c in chunk)).ids
        is_text = ids != PAD
        tokens += int(is_text.sum())
        _, choices, logits = forward(ids)
        for layer in range(layers):
            counts[layer] += torch.bincount(choices[layer][is_text], minlength=classes)
            log_probs = logits[layer][is_text].log_softmax(-1)
            entropy[layer] -= (log_probs.exp() * log_probs).sum() / torch.tensor(2.0).log()
    return RouterUse(counts / tokens, entropy / tokens)


def report(use: RouterUse) -> str:
    lines = ["layer  least used  most used  skipped  router entropy (bits)"]
    for layer, shares in enumerate(use.shares):
        experts = shares[:-1]
        figures = f"{experts.min():10.1%} {experts.max():10.1%} {shares[-1]:8.1%} {use.entropy[layer]:12.2f}"
        lines.append(f"{layer:5} {figures}")
    return "\n".join(lines) + "\n"


def draw(use: RouterUse, path: Path) -> None:
    """Experts' shares by layer as a heat map, beside the entropy of each layer's router."""
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(10, 3.2), width_ratios=(4, 1), layout="constrained", sharey=True
    )
    shares = use.shares * 100
    image = left.imshow(shares, aspect="auto", cmap="viridis", vmin=0)
    for layer in range(shares.shape[0]):
        for expert in range(shares.shape[1]):
            left.text(expert, layer, f"{shares[layer, expert]:.0f}", ha="center", va="center", color="white", size=8)
    left.set(xlabel="class (the last one skips)", ylabel="layer", title="share of tokens, %")
    left.set_xticks(range(shares.shape[1]), [*map(str, range(shares.shape[1] - 1)), "skip"])
    left.set_yticks(range(shares.shape[0]))
    figure.colorbar(image, ax=left)
    right.barh(range(shares.shape[0]), use.entropy, color="tab:orange")
    right.set(title="router entropy, bits", xlim=(0, 4.1))
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="How the experts are used.")
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    use = measure(arguments.model)
    sys.stdout.write(report(use))
    if arguments.picture:
        draw(use, arguments.picture)


if __name__ == "__main__":
    main()
