"""How much of the memory's speed a decode step uses, measured within the same tenths of a second.

    python -m benchmarks.read_share [--quant int4] [--dense int4] [--kv auto] [--batch 1,8] [--seconds 60]

On a machine shared with others the memory's speed changes by the second, up to twofold: a rate from one moment beside
the best speed of another says little. Here 800 MB are read before and after every eight steps of a model with random
full-size weights. The turns are sorted by the speed of those readings and shown in thirds: medians of the readings, of
the steps, and of each turn's share. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from zaya_cli.commands.bench import machine_facts
from zaya_cli.machine.threads import default_threads
from zaya_core.machine.bandwidth import read_bandwidth
from zaya_core.machine.memory import keep_freed_memory, spare_the_collector
from zaya_core.measure.bench import Bench, PreparedCase
from zaya_core.measure.dummy import dummy_model

_STEPS = 8  # of a turn
_READ = 800 << 20  # bytes of a reading
_THIRDS = ("slowest", "middle", "fastest")


@dataclass(frozen=True)
class Turn:
    """Some steps, in seconds each, and the bytes per second of the memory around them."""

    step: float
    read_bandwidth: float


@dataclass(frozen=True)
class Figures:
    """Medians over a third of the turns of one batch size; `gain` is the rate beside that of the first batch size."""

    third: str
    batch: int
    read_bandwidth: float
    step: float
    share: float
    gain: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quant", default="int4", help="the experts' format")
    parser.add_argument("--dense", default="int4", help="the other matrices' format")
    parser.add_argument("--kv", default="auto", help="keys and values: auto, float32, bf16, int8")
    parser.add_argument("--batch", default="1,8", help="rows of a step, with commas")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--layers", type=int, default=40, help="fewer only to try this program")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # both as the program does
    bench = Bench(dummy_model(arguments.quant, arguments.dense, arguments.layers, kv=arguments.kv))
    spare_the_collector()
    cases = [bench.decode(_STEPS, int(batch), depth=0) for batch in arguments.batch.split(",")]
    found = figures(cases, measure(cases, arguments.seconds))
    print(f"{'memory':>10}{'GB/s':>7}{'rows':>6}{'GB/step':>9}{'ms/step':>9}{'share':>7}{'tok/s':>8}")
    by_batch = {case.batch: case for case in cases}
    for one in found:
        gain = f"  {one.gain:.2f} times {cases[0].batch}" if one.batch != cases[0].batch else ""
        read, rate = by_batch[one.batch].bytes_per_step / 1e9, one.batch / one.step
        print(
            f"{one.third:>10}{one.read_bandwidth / 1e9:7.1f}{one.batch:6}{read:9.3f}"
            f"{one.step * 1e3:9.2f}{one.share:7.0%}{rate:8.1f}{gain}"
        )
    machine = machine_facts(bench.model, arguments.threads)
    print(json.dumps({"thirds": [asdict(one) for one in found], "settings": vars(arguments), "machine": machine}))


def measure(cases: Sequence[PreparedCase], seconds: float) -> dict[int, list[Turn]]:
    """Turns of every case in turn, by batch size; at least three of each."""
    block = torch.ones(_READ // 8, dtype=torch.int64)
    turns: dict[int, list[Turn]] = defaultdict(list)
    end = time.monotonic() + seconds
    before = read_bandwidth(block, 1)
    while time.monotonic() < end or len(turns[cases[-1].batch]) < len(_THIRDS):
        for case in cases:
            step = case.run() / _STEPS
            after = read_bandwidth(block, 1)
            turns[case.batch].append(Turn(step, statistics.harmonic_mean((before, after))))
            before = after
    return turns


def figures(cases: Sequence[PreparedCase], turns: dict[int, list[Turn]]) -> list[Figures]:
    """By thirds of the memory's speed, and in each by batch size."""
    found = []
    for i, third in enumerate(_THIRDS):
        first = None
        for case in cases:
            of_case = sorted(turns[case.batch], key=lambda turn: turn.read_bandwidth)
            part = of_case[len(of_case) * i // len(_THIRDS) : len(of_case) * (i + 1) // len(_THIRDS)]
            step = statistics.median(turn.step for turn in part)
            share = statistics.median(case.bytes_per_step / turn.step / turn.read_bandwidth for turn in part)
            first = first or case.batch / step
            speed = statistics.median(turn.read_bandwidth for turn in part)
            found.append(Figures(third, case.batch, speed, step, share, case.batch / step / first))
    return found


if __name__ == "__main__":
    main()
