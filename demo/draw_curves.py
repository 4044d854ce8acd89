"""Draw the curves of a training run from its log.

python -m demo.draw_curves --log build/demo/log.jsonl --picture demo/curves.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # the backend is chosen first: there may be no display

TASKS = (("direct", "tab:blue"), ("aggregation", "tab:green"))


def draw(log: Path, picture: Path) -> None:
    """Training loss on the left; held-out accuracy bounds of both tasks on the right."""
    lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    steps = [line["step"] for line in lines]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.5), layout="constrained")
    left.plot(steps, [line["loss"] for line in lines], color="black", label="training")
    for task, color in TASKS:
        left.plot(steps, [line[f"{task}_loss"] for line in lines], color=color, label=f"held out, {task}")
        for kind, style in (("greedy", "-"), ("sampled", "--")):
            right.plot(steps, [line[f"{task}_{kind}"] for line in lines], style, color=color, label=f"{task}, {kind}")
    left.set(xlabel="step", title="loss of completion tokens", yscale="log")
    right.set(xlabel="step", title="reference solution reproduced, held out", ylim=(0, 1))
    for axis in (left, right):
        axis.legend()
        axis.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description="Curves of a training run.")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    arguments = parser.parse_args()
    draw(arguments.log, arguments.picture)


if __name__ == "__main__":
    main()
