"""What it is worth that a candidate of RSA need not wait for the whole stage before (`--rsa-pipeline`): a simulation.

python -m benchmarks.rsa_schedule

The program's own schedule with drawn lengths of thoughts instead of a model. A step gives one token to each running row
and costs 1 + share * (rows - 1); a share of 0.35 is llama.cpp's on a CPU (8 sequences at 2.3 times the throughput of
one), 0.05 a GPU's that is bound by reading weights. Prefill counts as nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from zaya_core.rsa.params import RsaParams
from zaya_core.rsa.rollouts import Rollout, RolloutRequest
from zaya_core.rsa.solver import Solver
from zaya_core.sampling.params import SamplingParams

QUESTION = [{"role": "user", "content": "?"}]
RUNS = 20
SPREADS = {"alike (sigma 0.2)": 0.2, "usual (sigma 0.6)": 0.6, "wide (sigma 1.0)": 1.0}


def drawn_length(seed: int, spread: float, budget: int) -> Callable[[RolloutRequest], int]:
    """Log-normal around 0.5 of the budget, at most the budget."""

    def length(request: RolloutRequest) -> int:
        rng = random.Random(f"{seed} {request.stage} {request.candidate}")
        return max(1, min(budget, int(0.5 * budget * rng.lognormvariate(0, spread))))

    return length


def simulate(params: RsaParams, length: Callable[[RolloutRequest], int], rows: int, share: float) -> float:
    """The cost of one run, in steps of a single row."""
    solver = Solver(QUESTION, params, SamplingParams(top_p=1.0))
    waiting, running, cost = solver.ready(), list[tuple[int, RolloutRequest]](), 0.0
    while waiting or running:
        while waiting and len(running) < rows:
            request = waiting.pop(0)
            running.append((length(request), request))
        step = min(left for left, _ in running)
        cost += step * (1 + share * (len(running) - 1))
        ended = [request for left, request in running if left == step]
        running = [(left - step, request) for left, request in running if left > step]
        for request in ended:
            solver.take(Rollout(request.stage, request.candidate, request.subset, 0, "done", tail="x"))
        waiting += solver.ready()
    return cost


def main() -> None:
    print("| candidates | rows | thoughts | share | time with `--rsa-pipeline` |")
    print("|--:|--:|---|--:|--:|")
    for candidates, rows in ((8, 8), (16, 16), (16, 8)):
        for name, spread in SPREADS.items():
            for share in (0.35, 0.05):
                params = RsaParams(candidates=candidates, think=2000, tail=1)
                costs = {
                    pipelined: sum(
                        simulate(
                            replace(params, pipelined=pipelined),
                            drawn_length(seed, spread, params.think),
                            rows,
                            share,
                        )
                        for seed in range(RUNS)
                    )
                    for pipelined in (False, True)
                }
                print(f"| {candidates} | {rows} | {name} | {share} | {costs[True] / costs[False]:.1%} |")


if __name__ == "__main__":
    main()
