"""Look at the training data, write the held-out problems, or sample a model's own attempts for aggregation.

python -m demo.generate examples --count 5
python -m demo.generate held-out --count 500 > held_out.jsonl
python -m demo.generate attempts --checkpoint build/demo/last.pt --output build/demo/attempts.json
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import torch

from demo.examples import Attempted, draw_example, render
from demo.model import build_model
from demo.problems import Problem, held_out, training_problems
from demo.rollouts import answer_all, thinking
from demo.tokenizer import build_tokenizer

SHOWN_AGGREGATION_SHARE = 0.3


def show_examples(count: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(count):
        sys.stdout.write("".join(draw_example(rng, training_problems(rng), SHOWN_AGGREGATION_SHARE)) + "\n\n")


def show_held_out(count: int) -> None:
    for problem in held_out(count):
        line = {"question": problem.question, "expression": "".join(problem.expression), "answer": problem.answer}
        sys.stdout.write(json.dumps(line) + "\n")


def worth_aggregating(rng: random.Random, count: int) -> list[Problem]:
    """Training problems, with those of a single operation left out: the model hardly errs on them."""
    problems = training_problems(rng)
    drawn: list[Problem] = []
    while len(drawn) < count:
        problem = next(problems)
        if len(problem.expression) > 3:
            drawn.append(problem)
    return drawn


def sample_attempts(checkpoint: Path, count: int, each: int, seed: int) -> list[Attempted]:
    """Several thoughts of the checkpointed model about each of many training problems, at temperature 1."""
    model, tokenizer = build_model(0), build_tokenizer()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["averaged"])
    problems = worth_aggregating(random.Random(f"attempts:{seed}"), count)
    prompts = [render(problem.question) for problem in problems for _ in range(each)]
    thoughts = [thinking(text) for text in answer_all(model.eval(), tokenizer, prompts, 1.0, seed, batch=256)]
    return [Attempted(problem, thoughts[i * each : (i + 1) * each]) for i, problem in enumerate(problems)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Training data of the bundled model.")
    parser.add_argument("what", choices=("examples", "held-out", "attempts"))
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--each", type=int, default=6, help="attempts at each problem")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.what == "examples":
        show_examples(arguments.count, arguments.seed)
    elif arguments.what == "held-out":
        show_held_out(arguments.count)
    elif not arguments.checkpoint or not arguments.output:
        parser.error("attempts need --checkpoint and --output")
    else:
        attempted = sample_attempts(arguments.checkpoint, arguments.count, arguments.each, arguments.seed)
        arguments.output.write_text(json.dumps(attempted), encoding="utf-8")


if __name__ == "__main__":
    main()
