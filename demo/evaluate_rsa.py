"""Markovian RSA against single rollouts and majorities on held-out problems, all by the program's own algorithm.

python -m demo.evaluate_rsa                     # 300 problems: the table of the README
python -m demo.evaluate_rsa --operations 4      # the longer ones alone
python -m demo.evaluate_rsa --count 20          # a quick look
python -m demo.evaluate_rsa --output rsa.json   # also keep what every problem gave

Many problems share one Engine. A majority is RSA without rounds. The last majority spends at least as many generated
tokens on each problem as RSA did. Intervals are of 95 % over problems; differences are paired by problem.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import zaya_core
from demo.evaluate import BUNDLED
from demo.problems import Problem, held_out
from zaya_core import Engine, SamplingParams
from zaya_core.answers import same_answer
from zaya_core.rsa import RsaParams
from zaya_core.rsa.local import EngineGenerator
from zaya_core.rsa.params import fit_to_context
from zaya_core.rsa.rollouts import Rollout, RolloutFinished
from zaya_core.rsa.selection import answer_of, choose
from zaya_core.rsa.solver import Solver, aggregation_messages

RSA = RsaParams(candidates=8, rounds=2, subset=4, think=400, tail=400, answer=40)
PLAIN = RsaParams(candidates=8, rounds=0, think=400, tail=400, answer=40)


@dataclass(frozen=True)
class Row:
    """One line of the table. right: for each problem the share of its answers that are right; tokens: generated."""

    name: str
    right: list[float]
    tokens: list[int]

    @property
    def mean(self) -> float:
        return sum(self.right) / len(self.right)

    @property
    def half_width(self) -> float:
        return half_width(self.right)


def half_width(values: Sequence[float]) -> float:
    """Of the 95 % interval of the mean (normal; the values are one for each problem)."""
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    return 1.96 * float(variance / len(values)) ** 0.5


def solve_all(
    engine: Engine, problems: Sequence[Problem], params: RsaParams, first_seed: int
) -> Iterator[tuple[int, list[Rollout]]]:
    """The rollouts of every problem, as they are done; a problem is known by its seed."""
    generator = EngineGenerator(engine)
    waiting = list(enumerate(problems))
    open_solvers: dict[int, Solver] = {}
    in_flight = 0

    def submit(solver: Solver) -> int:
        requests = solver.ready()
        for request in requests:
            generator.submit(request)
        return len(requests)

    while waiting or open_solvers:
        while waiting and in_flight < engine.max_rows:
            number, problem = waiting.pop(0)
            solver = new_solver(generator, problem, params, first_seed + number)
            open_solvers[first_seed + number] = solver
            in_flight += submit(solver)
        for event in generator.advance():
            if isinstance(event, RolloutFinished):
                seed = event.rollout.seed
                solver = open_solvers[seed]
                solver.take(event.rollout)
                in_flight += submit(solver) - 1
                if solver.is_complete:
                    yield seed - first_seed, list(open_solvers.pop(seed).finished.values())


def new_solver(generator: EngineGenerator, problem: Problem, params: RsaParams, seed: int) -> Solver:
    """The schedule of one problem, fitted to the context."""
    messages = [{"role": "user", "content": problem.question}]
    sizes = generator.measure(messages, aggregation_messages(messages, [""] * params.tails))
    fitted = fit_to_context(params, sizes, generator.context)
    return Solver(messages, fitted, SamplingParams(top_p=1.0, seed=seed), sizes.shared)


def collect(
    engine: Engine, problems: Sequence[Problem], params: RsaParams, first_seed: int, name: str
) -> list[list[Rollout]]:
    """All rollouts by problem, with a line about how far it is."""
    found: list[list[Rollout]] = [[] for _ in problems]
    started = time.perf_counter()
    for done, (number, rollouts) in enumerate(solve_all(engine, problems, params, first_seed), 1):
        found[number] = rollouts
        if done % 20 == 0 or done == len(problems):
            print(f"{name}: {done} of {len(problems)} problems, {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return found


def is_right(problem: Problem, rollout: Rollout) -> bool:
    answer = answer_of(rollout)
    return answer is not None and same_answer(answer.text, str(problem.answer))


def tokens_of(rollouts: Sequence[Rollout]) -> int:
    return sum(rollout.completion_tokens for rollout in rollouts)


def vote(name: str, problems: Sequence[Problem], voters: Sequence[list[Rollout]], spent: Sequence[int]) -> Row:
    """One chosen answer for each problem."""
    chosen = [choose(rollouts, "agreement").rollout for rollouts in voters]
    return Row(name, [float(is_right(*pair)) for pair in zip(problems, chosen, strict=True)], list(spent))


def average(name: str, problems: Sequence[Problem], groups: Sequence[list[Rollout]], spent: Sequence[int]) -> Row:
    """The mean over each problem's rollouts."""
    shares = [
        sum(is_right(problem, rollout) for rollout in rollouts) / len(rollouts)
        for problem, rollouts in zip(problems, groups, strict=True)
    ]
    return Row(name, shares, list(spent))


def as_many_tokens(rollouts: Sequence[Rollout], tokens: int) -> list[Rollout]:
    """The first so many rollouts that together have at least `tokens`; all where that is not enough."""
    total = 0
    for count, rollout in enumerate(rollouts, 1):
        total += rollout.completion_tokens
        if total >= tokens:
            return list(rollouts[:count])
    return list(rollouts)


def table(problems: Sequence[Problem], plain: Sequence[list[Rollout]], rsa: Sequence[list[Rollout]]) -> list[Row]:
    """The rows that are compared."""
    spent = [tokens_of(rollouts) for rollouts in rsa]
    ordered = [sorted(rollouts, key=lambda rollout: rollout.candidate) for rollouts in plain]
    eight = [rollouts[: PLAIN.candidates] for rollouts in ordered]
    equal = [as_many_tokens(rollouts, tokens) for rollouts, tokens in zip(ordered, spent, strict=True)]
    last = [[rollout for rollout in rollouts if rollout.stage == RSA.rounds] for rollouts in rsa]
    mean_tokens = [round(tokens_of(rollouts) / len(rollouts)) for rollouts in ordered]
    voters = sum(map(len, equal)) / len(equal)
    return [
        average("single rollout", problems, ordered, mean_tokens),
        vote("majority of 8 (T=0)", problems, eight, [tokens_of(rollouts) for rollouts in eight]),
        vote(f"majority of {voters:.1f}, RSA's tokens", problems, equal, [tokens_of(rollouts) for rollouts in equal]),
        average("RSA 8/4/2, mean of the last round", problems, last, spent),
        vote("RSA 8/4/2", problems, last, spent),
    ]


def print_table(rows: Sequence[Row]) -> None:
    """Markdown, with the differences from RSA below."""
    print(f"| n = {len(rows[0].right)} held-out problems | right | 95 % interval | generated tokens a problem |")
    print("|---|--:|--:|--:|")
    for row in rows:
        low, high = row.mean - row.half_width, row.mean + row.half_width
        tokens = sum(row.tokens) / len(row.tokens)
        print(f"| {row.name} | {row.mean:.1%} | {max(low, 0):.1%} to {min(high, 1):.1%} | {tokens:,.0f} |")
    rsa = rows[-1]
    print()
    for row in rows[:3]:
        differences = [a - b for a, b in zip(rsa.right, row.right, strict=True)]
        mean, half = sum(differences) / len(differences), half_width(differences)
        print(
            f"RSA less {row.name}: {100 * mean:+.1f} points ({100 * (mean - half):+.1f} to {100 * (mean + half):+.1f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Markovian RSA against majorities on held-out problems.")
    parser.add_argument("--model", type=Path, default=BUNDLED)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--operations", type=int, default=1, choices=range(1, 7), help="of a problem at least")
    parser.add_argument("--problems", type=int, default=1, help="seed of the problems")
    parser.add_argument("--plain", type=int, default=34, help="plain rollouts a problem, enough for RSA's tokens")
    parser.add_argument("--rows", type=int, default=64, help="running at once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    model = zaya_core.load_model(arguments.model, device="cpu", dtype=torch.float32)
    engine = Engine(model, zaya_core.load_tokenizer(arguments.model), max_rows=arguments.rows)
    problems = held_out(arguments.count, arguments.problems, arguments.operations)
    plain_params = RsaParams(**{**vars(PLAIN), "candidates": arguments.plain})
    rsa = collect(engine, problems, RSA, arguments.seed * 1_000_000, "RSA")
    plain = collect(engine, problems, plain_params, arguments.seed * 1_000_000 + 500_000, "plain")
    print_table(table(problems, plain, rsa))
    if arguments.output:
        kept = [
            {"question": problem.question, "answer": problem.answer, "rsa": [r.as_json() for r in one],
             "plain": [r.as_json() for r in other]}
            for problem, one, other in zip(problems, rsa, plain, strict=True)
        ]  # fmt: skip
        arguments.output.write_text(json.dumps(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
