"""Look at the training data, or write the held-out problems.

python -m demo.generate examples --count 5
python -m demo.generate held-out --count 500 > held_out.jsonl
"""

from __future__ import annotations

import argparse
import json
import random
import sys

from demo.examples import draw_example
from demo.problems import held_out, training_problems

SHOWN_AGGREGATION_SHARE = 0.3


def show_examples(count: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        sys.stdout.write("".join(draw_example(rng, training_problems(rng), SHOWN_AGGREGATION_SHARE)) + "\n\n")


def show_held_out(count: int) -> None:
    for problem in held_out(count):
        line = {"question": problem.question, "expression": "".join(problem.expression), "answer": problem.answer}
        sys.stdout.write(json.dumps(line) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Training data of the bundled model.")
    parser.add_argument("what", choices=("examples", "held-out"))
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.what == "examples":
        show_examples(arguments.count, arguments.seed)
    else:
        show_held_out(arguments.count)


if __name__ == "__main__":
    main()
