"""Held-out accuracy of the bundled model, with transformers' implementation and with this project's.

python -m demo.evaluate                                # both: greedy, temperature 1, and equal greedy texts
python -m demo.evaluate --implementation transformers  # one of them
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import ZayaForCausalLM

import zaya_core
from demo.examples import render
from demo.problems import Problem, held_out, operations_in
from demo.rollouts import LONGEST_ANSWER, answer_all, boxed_answer
from zaya_core import Request, SamplingParams
from zaya_core.config.kv_format import KVFormat
from zaya_core.engine.events import TokenEvent

BUNDLED = Path(__file__).parent.parent / "zaya_core" / "bundled" / "demo"
ROWS = 32  # running at once in the Engine

Answers = Callable[[list[str], float, int], list[str]]  # user messages, temperature and seed to completions


def with_transformers(folder: Path) -> Answers:
    model = ZayaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def answers(questions: list[str], temperature: float, seed: int) -> list[str]:
        return answer_all(model, tokenizer, [render(question) for question in questions], temperature, seed)

    return answers


def with_zaya(folder: Path, dtype: str = "float32", kv: KVFormat = "auto") -> Answers:
    """The same through this project's template, tokenizer, model and Engine."""
    model = zaya_core.load_model(folder, device="cpu", dtype=dtype, kv=kv)
    tokenizer = zaya_core.load_tokenizer(folder)

    def request(question: str, number: int, temperature: float, seed: int) -> Request:
        ids = tokenizer.render_chat([{"role": "user", "content": question}])
        sampling = SamplingParams(temperature=temperature, top_p=1.0, min_p=0.0, seed=seed)
        return Request(ids, sampling, max_tokens=LONGEST_ANSWER, candidate=number)

    def answers(questions: list[str], temperature: float, seed: int) -> list[str]:
        engine = zaya_core.Engine(model, tokenizer, max_rows=ROWS)
        requests = [request(question, number, temperature, seed) for number, question in enumerate(questions)]
        order = {engine.submit(wanted): number for number, wanted in enumerate(requests)}
        tokens: list[list[int]] = [[] for _ in questions]
        while not engine.is_idle:
            for event in engine.step():
                if isinstance(event, TokenEvent):
                    tokens[order[event.request_id]].append(event.token_id)
        return [tokenizer.decode(ids, skip_special_tokens=False) for ids in tokens]

    return answers


def interval(hits: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % confidence interval of a share."""
    z, share = 1.96, hits / count
    middle = share + z * z / (2 * count)
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    return (middle - half) / (1 + z * z / count), (middle + half) / (1 + z * z / count)


def is_right(problem: Problem, text: str) -> bool:
    return boxed_answer(text) == str(problem.answer)


def describe(name: str, rights: list[bool]) -> str:
    low, high = interval(sum(rights), len(rights))
    return f"{name}: {sum(rights) / len(rights):.1%} right (95 % interval {low:.1%} to {high:.1%}, n = {len(rights)})\n"


def by_operations(problems: list[Problem], rights: list[bool]) -> str:
    """Accuracy for each number of operations, on one line."""
    groups: dict[int, list[bool]] = {}
    for problem, right in zip(problems, rights, strict=True):
        groups.setdefault(operations_in(problem.expression), []).append(right)
    return "  by operations: " + ", ".join(f"{n}: {sum(g) / len(g):.0%}" for n, g in sorted(groups.items())) + "\n"


def evaluate(name: str, answers: Answers, problems: list[Problem]) -> list[str]:
    """Print both accuracies of one implementation; return the greedy texts."""
    questions = [problem.question for problem in problems]
    greedy = answers(questions, 0.0, 0)
    for label, texts in (("greedy", greedy), ("temperature 1", answers(questions, 1.0, 1))):
        rights = [is_right(problem, text) for problem, text in zip(problems, texts, strict=True)]
        sys.stdout.write(describe(f"{name}, {label}", rights) + by_operations(problems, rights))
        sys.stdout.flush()
    return greedy


def main() -> None:
    parser = argparse.ArgumentParser(description="Held-out accuracy of the bundled model.")
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--implementation", choices=("transformers", "zaya", "both"), default="both")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    problems = held_out(arguments.count)
    makers = {"transformers": with_transformers, "zaya": with_zaya}
    names = list(makers) if arguments.implementation == "both" else [arguments.implementation]
    implementations = {name: makers[name](arguments.model) for name in names}
    greedy = [evaluate(name, answers, problems) for name, answers in implementations.items()]
    if len(greedy) == 2:
        same = sum(first == second for first, second in zip(*greedy, strict=True))
        sys.stdout.write(f"greedy texts identical: {same} of {len(problems)} ({same / len(problems):.1%})\n")


if __name__ == "__main__":
    main()
