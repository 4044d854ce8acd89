"""The speed of two builds, which take turns in one process: what the machine does meanwhile happens to both.

    python -m benchmarks.turns OLD_TREE NEW_TREE [--turns 40] [--threads 2] FOLDER [FOLDER ...]

A turn is old, new, new, old, some hundredths of a second each. Printed is new/old, the median of the turns' ratios of
seconds with its 95 % interval from their order (no assumption about how they are spread). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

LEAST_TURNS = 6  # fewer have no 95 % interval
REGRESSION = 1.03
_ROOMS = ("quant", "zaya_core")
_SECONDS = 0.05  # of one measurement, about
_MOST_STEPS = 256
_BEGUN = 32  # tokens in front of the steps
_PROMPT = 512


class Tree:
    """The modules of one build, beside those of another in the same process."""

    def __init__(self, folder: Path):
        self._folder = folder.resolve()
        self._modules: dict[str, ModuleType] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within it, imports find this tree's modules, also late ones inside of functions."""
        sys.path.insert(0, str(self._folder))
        sys.modules.update(self._modules)
        try:
            yield
        finally:
            names = [name for name in sys.modules if name.partition(".")[0] in _ROOMS]
            self._modules = {name: sys.modules.pop(name) for name in names}
            sys.path.remove(str(self._folder))

    def load_model(self, folder: Path) -> Any:
        """Its model. Raises RuntimeError when Python took the package from elsewhere."""
        with self.active():
            package = import_module("zaya_core")
            if not Path(str(package.__file__)).resolve().is_relative_to(self._folder):
                raise RuntimeError(f"{self._folder} was to be measured; Python imported {package.__file__}")
            return package.load_model(folder, device="cpu")


@dataclass(frozen=True)
class Side:
    """One build's model."""

    tree: Tree
    model: Any

    def decode(self, rows: int, steps: int) -> float:
        """Seconds of so many steps, after a short prompt and a first step that are not counted."""
        with self.tree.active():
            ids, cache = self._ids(rows, _BEGUN + 1 + steps), self.model.new_cache(rows)
            self.model(ids[:, :_BEGUN], cache, last_only=True)
            self.model(ids[:, _BEGUN, None], cache)
            started = time.perf_counter()
            for column in ids[:, _BEGUN + 1 :].split(1, 1):
                self.model(column, cache)
            return time.perf_counter() - started

    def prefill(self, times: int) -> float:
        """Seconds of a prompt of 512 tokens, so many times."""
        with self.tree.active():
            ids = self._ids(1, _PROMPT)
            started = time.perf_counter()
            for _ in range(times):
                self.model(ids, self.model.new_cache(1), last_only=True, is_prompt=True)
            return time.perf_counter() - started

    def _ids(self, rows: int, columns: int) -> Tensor:
        numbers = torch.arange(rows)[:, None] * 104_729 + torch.arange(columns) * 7_919 + 5
        return numbers % int(self.model.config.vocab_size)


Work = Callable[[Side, int], float]  # seconds of so many repetitions
CASES: dict[str, Work] = {
    "decode, 1 row": lambda side, count: side.decode(1, count),
    "decode, 8 rows": lambda side, count: side.decode(8, count),
    f"prefill of {_PROMPT}": lambda side, count: side.prefill(count),
}


@dataclass(frozen=True)
class Ratio:
    """Seconds of the new build over those of the old one: the median turn, and its interval."""

    model: str
    case: str
    median: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Whether the interval lies wholly beyond what is let pass."""
        return "regression" if self.low > REGRESSION else "faster" if self.high < 1 / REGRESSION else ""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    trees = Tree(arguments.old), Tree(arguments.new)
    found = []
    print(f"{'model':16}{'case':18}{'new/old':>9}{'95 % interval':>18}")
    for folder in arguments.folders:
        old, new = (Side(tree, tree.load_model(folder)) for tree in trees)
        for case, work in CASES.items():
            median, low, high = interval(ratios(old, new, work, arguments.turns))
            one = Ratio(folder.name, case, median, low, high)
            found.append(one)
            print(f"{one.model:16}{case:18}{median:9.3f}{low:10.3f} to {high:.3f}  {one.verdict}", flush=True)
    print(json.dumps({"turns": arguments.turns, "ratios": [asdict(one) | {"verdict": one.verdict} for one in found]}))


def ratios(old: Side, new: Side, work: Work, turns: int) -> list[float]:
    """New over old of each turn."""
    work(new, 1)  # pages of the files, and threads, are there before anything is measured
    count = max(1, min(_MOST_STEPS, int(_SECONDS / work(old, 1))))
    found = []
    for _ in range(turns):
        first, *theirs, last = (work(side, count) for side in (old, new, new, old))
        found.append(sum(theirs) / (first + last))
    return found


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """The median, and the two values in order between which it lies with at least 95 % confidence.

    A value lies below the true median with probability 1/2, so that the number of those that do is binomial. Raises
    ValueError for fewer values than have such an interval.
    """
    if (count := len(values)) < LEAST_TURNS:
        raise ValueError(f"{count} turns have no 95 % interval; {LEAST_TURNS} do")
    ordered, outside, cut = sorted(values), 0.0, 0
    while (outside := outside + math.comb(count, cut) * 2.0 ** (1 - count)) <= 0.05:
        cut += 1  # the chance that at most this many are on one side, both sides together, was small enough
    return statistics.median(ordered), ordered[cut - 1], ordered[count - cut]


if __name__ == "__main__":
    main()
