"""Prefill and decode of ZAYA1-8B's sizes on this CPU, zaya beside llama.cpp, with the memory's speed in the same run.

    pip install llama-cpp-python gguf
    python -m benchmarks.vs_llama_cpp [--rows decode,sequences,prefill-512] [--repeats 3] [--tokens 32] [--gguf PATH]

Nothing is downloaded: zaya makes random weights in memory, llama.cpp gets a file of random weights of the same shapes
(`benchmarks/random_gguf.py`: Q4_0 everywhere, written once, 4.95 GB). Both have the same number of threads, random ids,
no tokenizer and no choice of tokens. Random routers spread tokens about evenly over the experts on both sides; zaya's
spread is counted and shown, llama.cpp's is not. Every side is a process that stays loaded and waits while another
measures; a round is one run of every row by every side in turn, of rows that decode three runs, since the memory of a
shared machine changes its speed by the second. The figures are medians over all runs.

| row | what |
|---|---|
| decode | one row from depth 0; int4 everywhere |
| sequences | 8 rows at once |
| prefill-512, prefill-4096 | a prompt; llama.cpp in its chunks of 512, zaya in its own of 1,024 |
| depth | decode behind 16,384 tokens; llama.cpp only with `--peer-depth`, which computes them first |
| int8-dense | int4 experts, the rest int8: 1 and 8 rows; zaya only |
| int8 | int8 everywhere; zaya only |
| int8-kv | int4 everywhere with `--kv int8`: one row from depth 0 and behind 16,384 tokens; zaya only |

With all rows a run takes some 10 to 20 minutes on 2 cores and 13 GB of memory. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.random_gguf import Sizes, write_random_gguf
from benchmarks.workers import Worker, serve
from zaya_cli.machine.hardware import processor
from zaya_cli.machine.threads import default_threads
from zaya_core.config.kv_format import KVFormat
from zaya_core.measure.bench import Kind

_MODULE = "benchmarks.vs_llama_cpp"
_ROWS = ("decode", "sequences", "prefill-512", "prefill-4096", "depth", "int8-dense", "int8", "int8-kv")
_PACKAGES = {"llama_cpp": "llama-cpp-python", "gguf": "gguf"}
_PASSES = 10  # over the memory, at least, in between the runs of a row
_TURNS = {"prefill": 1, "decode": 3}  # runs of a row in a round


@dataclass(frozen=True)
class Row:
    """One line of the table. tokens: of each of `batch` rows."""

    name: str
    kind: Kind
    tokens: int
    batch: int = 1
    depth: int = 0
    with_peer: bool = False


@dataclass(frozen=True)
class Group:
    """Rows that one loaded model of zaya's measures."""

    quant: str
    dense: str
    kv: KVFormat
    rows: list[Row]

    @property
    def name(self) -> str:
        return f"{self.quant}+{self.dense}" + ("" if self.kv == "auto" else f", {self.kv} K/V")


@dataclass
class Figures:
    """What came of a row. State: rates in tokens per second for each side, bytes per second of the memory."""

    row: Row
    format: str
    case: dict[str, float]
    rates: dict[str, list[float]] = field(default_factory=dict)
    read_bandwidth: float = 0.0

    def median(self, side: str) -> float | None:
        return statistics.median(self.rates[side]) if side in self.rates else None

    @property
    def share_of_bandwidth(self) -> float | None:
        ours = self.median("zaya")
        if self.row.kind == "prefill" or ours is None:
            return None
        return self.case["bytes_per_step"] * ours / self.row.batch / self.read_bandwidth

    def as_dict(self) -> dict[str, Any]:
        """For the last line: medians, all rates, and what zaya's step reads."""
        ours, theirs = self.median("zaya"), self.median("llama.cpp")
        return {
            **asdict(self.row),
            "format": self.format,
            "zaya": ours,
            "llama.cpp": theirs,
            "ratio": ours / theirs if ours and theirs else None,
            **self.case,
            "read_bandwidth": self.read_bandwidth,
            "share_of_bandwidth": self.share_of_bandwidth,
            "rates": self.rates,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(_ROWS), help="which to measure, with commas; all by default")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--tokens", type=int, default=32, help="tokens to decode in one run")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of every side")
    parser.add_argument("--layers", type=int, default=40, help="fewer only to try this program")
    parser.add_argument("--gguf", type=Path, help="file of random weights; written if it is not there, and kept")
    parser.add_argument("--peer-depth", action="store_true", help="llama.cpp for the row depth, too (minutes more)")
    parser.add_argument("--side", choices=tuple(_SIDES), help=argparse.SUPPRESS)
    parser.add_argument("--quant", default="int4", help=argparse.SUPPRESS)
    parser.add_argument("--dense", default="int4", help=argparse.SUPPRESS)
    parser.add_argument("--kv", default="auto", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        _SIDES[arguments.side](arguments)
    else:
        _compare(arguments, _groups(arguments))


def _groups(arguments: argparse.Namespace) -> list[Group]:
    names = [name.strip() for name in arguments.rows.split(",") if name.strip()]
    if strange := [name for name in names if name not in _ROWS]:
        raise SystemExit(f"There is no row {strange[0]!r}; there are {', '.join(_ROWS)}.")
    if not names or arguments.repeats < 1 or arguments.tokens < 1:
        raise SystemExit("Nothing would be measured: --rows, --repeats and --tokens must leave something.")
    one, eight = Row("decode", "decode", arguments.tokens), Row("sequences", "decode", arguments.tokens, 8)
    with_peer = {
        "decode": Row("decode", "decode", arguments.tokens, with_peer=True),
        "sequences": Row("sequences", "decode", arguments.tokens, 8, with_peer=True),
        "prefill-512": Row("prefill-512", "prefill", 512, with_peer=True),
        "prefill-4096": Row("prefill-4096", "prefill", 4096, with_peer=True),
        "depth": Row("depth", "decode", arguments.tokens, depth=16_384, with_peer=arguments.peer_depth),
    }
    groups = [Group("int4", "int4", "auto", [row for name, row in with_peer.items() if name in names])]
    if "int8-dense" in names:
        groups.append(Group("int4", "int8", "auto", [one, eight]))
    if "int8" in names:
        groups.append(Group("int8", "int8", "auto", [one]))
    if "int8-kv" in names:
        deep = replace(with_peer["depth"], with_peer=False)
        groups.append(Group("int4", "int4", "int8", [one, deep]))
    return [group for group in groups if group.rows]


def _compare(arguments: argparse.Namespace, groups: Sequence[Group]) -> None:
    path = arguments.gguf or Path(tempfile.gettempdir()) / f"zaya-benchmark-qwen3moe-{arguments.layers}-layers.gguf"
    if any(row.with_peer for group in groups for row in group.rows):
        _prepare_peer(path, arguments.layers)
    figures: list[Figures] = []
    facts: dict[str, Any] = {}
    print(
        f"{'':14}{'format':>20}{'zaya':>9}{'llama.cpp':>11}{'ratio':>7}{'GB/step':>9}{'experts':>9}{'share':>7}  GB/s"
    )
    for group in groups:
        found, sides = _measure(arguments, group, path)
        facts |= sides
        figures += found
        for one in found:
            print(_line(one), flush=True)
    for sentence in _within_zaya(figures):
        print(sentence)
    settings = {
        key: value for key, value in vars(arguments).items() if key not in ("side", "quant", "dense", "kv", "gguf")
    }
    machine = {"platform": platform.platform(), "processor": processor(), "cpus": os.cpu_count()}
    print(json.dumps({"rows": [one.as_dict() for one in figures], "sides": facts, "settings": settings, **machine}))


def _prepare_peer(path: Path, layers: int) -> None:
    if missing := [package for module, package in _PACKAGES.items() if importlib.util.find_spec(module) is None]:
        raise SystemExit(f"For llama.cpp install {' and '.join(missing)}: pip install {' '.join(missing)}")
    if not path.exists():
        print(f"writing {path}", file=sys.stderr)
        write_random_gguf(path.absolute(), Sizes(layers=layers))


def _measure(arguments: argparse.Namespace, group: Group, path: Path) -> tuple[list[Figures], dict[str, Any]]:
    """Rounds of every row by every side; the memory is read after each row."""
    common = ["--threads", str(arguments.threads), "--layers", str(arguments.layers)]
    with ExitStack() as stack:
        formats = ["--quant", group.quant, "--dense", group.dense, "--kv", group.kv]
        zaya = stack.enter_context(Worker(_MODULE, ["--side", "zaya", *common, *formats]))
        workers = {"zaya": zaya}
        if any(row.with_peer for row in group.rows):
            peer = ["--side", "llama.cpp", *common, "--gguf", str(path)]
            workers["llama.cpp"] = stack.enter_context(Worker(_MODULE, peer))
        memory = stack.enter_context(Worker(_MODULE, ["--side", "memory", *common]))
        figures = [_prepared(row, group.name, workers) for row in group.rows]
        for _ in range(arguments.repeats):
            for one in [figure for figure in figures for _ in range(_TURNS[figure.row.kind])]:
                for side in one.rates:
                    one.rates[side].append(workers[side].ask(run=one.row.name)["rate"])
                passes = max(2, -(-_PASSES // arguments.repeats))
                one.read_bandwidth = max(one.read_bandwidth, memory.ask(passes=passes)["bytes_per_second"])
        facts = {
            f"{side} beside {group.name}" if side == "llama.cpp" else f"{side} {group.name}": worker.facts
            | {"idle_seconds": round(worker.idle_seconds, 2), "resident_bytes": worker.resident_bytes()}
            for side, worker in workers.items()
        }
        return figures, facts


def _prepared(row: Row, format: str, workers: dict[str, Worker]) -> Figures:
    sides = [side for side in workers if side == "zaya" or row.with_peer]
    cases = {side: workers[side].ask(prepare=asdict(row)) for side in sides}
    return Figures(row, format, cases["zaya"], {side: [] for side in sides})


def _line(one: Figures) -> str:
    ours, theirs = one.median("zaya"), one.median("llama.cpp")
    assert ours is not None
    peer = f"{theirs:11.2f}{ours / theirs:7.2f}" if theirs else f"{'':18}"
    share = one.share_of_bandwidth
    read = f"{one.case['bytes_per_step'] / 1e9:9.3f}{one.case['distinct_experts']:9.1f}"
    ends = f"{share:7.0%}" if share else f"{'':7}"
    return f"{one.row.name:14}{one.format:>20}{ours:9.2f}{peer}{read}{ends}{one.read_bandwidth / 1e9:6.1f}"


def _within_zaya(figures: Sequence[Figures]) -> list[str]:
    """Rates of zaya's in terms of each other."""
    rates = {(one.format, one.row.name): rate for one in figures if (rate := one.median("zaya"))}
    ratios = (
        ("prefill of 4,096 tokens", "prefill-4096", "prefill-512", "the rate of 512"),
        ("8 sequences", "sequences", "decode", "the rate of one"),
        ("behind 16,384 tokens", "depth", "decode", "the rate behind none"),
    )
    return [
        f"zaya, {format}: {what} at {rates[format, above] / rates[format, below]:.2f} times {of}"
        for what, above, below, of in ratios
        for format in dict.fromkeys(format for format, _ in rates)
        if (format, above) in rates and (format, below) in rates
    ]


# --- the sides, each in its process -----------------------------------------------------------------------------------


def _zaya(arguments: argparse.Namespace) -> None:
    import torch

    from zaya_core.kernels.resolve import products_in_use
    from zaya_core.machine.memory import keep_freed_memory, spare_the_collector
    from zaya_core.measure.bench import Bench, PreparedCase
    from zaya_core.measure.dummy import dummy_model

    torch.set_num_threads(arguments.threads)
    keep_freed_memory()  # both as the program does
    model = dummy_model(arguments.quant, arguments.dense, arguments.layers, kv=arguments.kv)
    spare_the_collector()
    bench, cases = Bench(model), dict[str, PreparedCase]()

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        if "run" in question:
            return {"rate": cases[question["run"]].rate()}
        row = Row(**question["prepare"])
        make = bench.prefill if row.kind == "prefill" else bench.decode
        case = cases[row.name] = make(row.tokens, row.batch, row.depth)
        return {"bytes_per_step": case.bytes_per_step, "distinct_experts": case.distinct_experts}

    kernels = [one.name for one in products_in_use()]
    serve({"zaya": version("zaya"), "torch": torch.__version__, "kernels": kernels}, answer)


def _llama_cpp(arguments: argparse.Namespace) -> None:
    import llama_cpp

    from benchmarks.llama_cpp_side import LlamaCase, LlamaModel

    model, cases = LlamaModel(arguments.gguf, arguments.threads), dict[str, LlamaCase]()

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        if "run" in question:
            case = cases[question["run"]]
            return {"rate": case.rows * case.tokens / case.run()}
        row = Row(**question["prepare"])
        cases[row.name] = LlamaCase(model, row.kind, row.tokens, row.batch, row.depth)
        return {}

    system = llama_cpp.llama_print_system_info().decode()
    serve({"llama-cpp-python": version("llama-cpp-python"), "system": system}, answer)


def _memory(arguments: argparse.Namespace) -> None:
    import torch

    from zaya_core.machine.bandwidth import BYTES, read_bandwidth

    torch.set_num_threads(arguments.threads)
    block = torch.ones(BYTES // 8, dtype=torch.int64)
    serve({}, lambda question: {"bytes_per_second": read_bandwidth(block, question["passes"])})


_SIDES: dict[str, Callable[[argparse.Namespace], None]] = {
    "zaya": _zaya,
    "llama.cpp": _llama_cpp,
    "memory": _memory,
}


if __name__ == "__main__":
    main()
