"""zaya on this machine's card, in minutes and without a network: random weights of ZAYA1-8B's sizes, made on the card.

    python -m benchmarks.gpu [--minutes 4] [--device cuda] [--layers 40]

Stages are in the order of their importance and each is printed as it ends; those for which no time is left are named.
Beside them transformers' ZayaForCausalLM in bf16 on the same card, where it is installed and has room. The last lines
are a table in markdown, for the README, and the figures as JSON. `--layers` less than 40: a first look at a small card;
rates are then of that many layers.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch

from zaya_core.errors import ZayaError
from zaya_core.kernels.card_choice import choose_for, is_unchecked
from zaya_core.kernels.resolve import products_in_use
from zaya_core.machine.device import choose_device
from zaya_core.machine.gpus import driver_and_build, first_line, visible_gpus
from zaya_core.machine.triton_support import triton_version
from zaya_core.measure.bench import Bench, Measurement, PreparedCase
from zaya_core.measure.dummy import VOCABULARY, dummy_model, full_size_config
from zaya_core.sampling.params import SamplingParams

Format = Literal["int4", "int8"]
_DECODED, _REPEATS = 64, 3
_DEPTH = 64  # tokens before those that are timed
_DRAWN = SamplingParams()


@dataclass
class Figures:
    """Of one card. rows: (what, tokens per second, share of the copy bandwidth or None), as they are measured."""

    card: str
    deadline: float
    rows: list[tuple[str, float, float | None]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def note(self, what: str, rate: float, share: float | None = None) -> None:
        """Keep and print."""
        self.rows.append((what, rate, share))
        print(f"{what:48}{rate:10,.1f} tok/s" + ("" if share is None else f"{share:8.0%} of copying"), flush=True)

    def attempt(self, what: str, work: Callable[[], object]) -> None:
        """Do it if there is time left. What fails is named, and the rest goes on: a card may have room for the next."""
        if time.monotonic() > self.deadline:
            self.left_out.append(what)
            return
        try:
            work()
        except Exception as error:
            print(f"{what} fails: {type(error).__name__}: {first_line(error)}", flush=True)


def main() -> None:
    """All stages that there is time for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=4.0, help="no stage begins later")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--layers", type=int, default=40)
    arguments = parser.parse_args()
    started = time.monotonic()
    try:
        device = choose_device(arguments.device).device
    except ZayaError as error:
        parser.error(str(error))
    figures = Figures(_name_of(device), started + 60 * arguments.minutes)
    print(f"{figures.card}, PyTorch {torch.__version__}, {arguments.layers} layers", flush=True)
    try:
        _check_kernels(device)
        print(f"{'checked after':48}{time.monotonic() - started:10.1f} s", flush=True)
        for what, stage in _stages(device, arguments.layers):
            figures.attempt(what, partial(stage, figures))
            _free()
    except KeyboardInterrupt:
        print("stopped", flush=True)
    except ZayaError as error:  # ZAYA_KERNELS asks for what is not there
        parser.error(str(error))
    _report(figures, time.monotonic() - started)


def _check_kernels(device: torch.device) -> None:
    """Where they have not been, and say who computes. Raises ZayaError."""
    products_in_use()
    if any(map(is_unchecked, visible_gpus(str(device)) if device.type == "cuda" else [])):
        print("checking zaya's kernels on this card, at most 3 minutes ...", flush=True)
    choose_for(device)
    for products in products_in_use(device):
        print(f"{products.name}: {products.reason}", flush=True)


def _stages(device: torch.device, layers: int) -> Iterator[tuple[str, Callable[[Figures], None]]]:
    yield "int4", lambda figures: _ours(figures, device, layers, "int4")
    yield "transformers", lambda figures: _theirs(figures, device, layers)
    yield "int8", lambda figures: _ours(figures, device, layers, "int8")
    yield "int4 without graphs", lambda figures: _without_graphs(figures, device, layers)


def _ours(figures: Figures, device: torch.device, layers: int, kind: Format) -> None:
    bench = Bench(dummy_model(kind, kind, layers=layers, device=str(device)), repeats=_REPEATS)
    print(f"{kind} by {bench.model.steps.name}", flush=True)
    cases: list[tuple[str, Callable[[], PreparedCase]]] = [
        ("1 row", lambda: bench.decode(_DECODED, 1, _DEPTH)),
        ("1 row, sampled", lambda: bench.decode(_DECODED, 1, _DEPTH, _DRAWN)),
        ("prefill of 4,096", lambda: bench.prefill(4096, 1, 0)),
        ("16 rows", lambda: bench.decode(_DECODED, 16, _DEPTH)),
        ("prefill of 512", lambda: bench.prefill(512, 1, 0)),
        ("8 rows", lambda: bench.decode(_DECODED, 8, _DEPTH)),
        ("1 row behind 16,384 tokens", lambda: bench.decode(_DECODED, 1, 16384)),
    ]
    _measure(figures, bench, kind, cases)


def _without_graphs(figures: Figures, device: torch.device, layers: int) -> None:
    bench = Bench(dummy_model("int4", "int4", layers=layers, device=str(device), graphs="off"), repeats=_REPEATS)
    cases = [("1 row without graphs", lambda: bench.decode(_DECODED, 1, _DEPTH))]
    _measure(figures, bench, "int4", cases)


def _measure(figures: Figures, bench: Bench, kind: Format, cases: list[tuple[str, Callable[[], PreparedCase]]]) -> None:
    def measure(name: str, prepare: Callable[[], PreparedCase]) -> None:
        measured: Measurement = bench.measure(prepare())
        is_step = measured.case.kind == "decode"
        rate = statistics.median(measured.rates)
        figures.note(name, rate, rate / measured.expected_rate if is_step else None)

    for what, prepare in cases:
        name = f"{kind}, {what}"
        figures.attempt(name, partial(measure, name, prepare))


def _theirs(figures: Figures, device: torch.device, layers: int) -> None:
    """Eager, as transformers comes; one row."""
    if importlib.util.find_spec("transformers") is None:
        print("transformers is not installed", flush=True)
        return
    from transformers import AutoModelForCausalLM, ZayaConfig

    with torch.device(device), torch.inference_mode():
        model = AutoModelForCausalLM.from_config(ZayaConfig(**full_size_config(layers)), dtype=torch.bfloat16).eval()
        ids = torch.randint(300, VOCABULARY - 1, (1, _DEPTH))
        for experts in ("eager", "grouped_mm"):
            model.set_experts_implementation(experts)
            rates = [_rate_of_theirs(model, ids) for _ in range(2)]
            figures.note(f"transformers bf16, experts {experts}, 1 row", max(rates))


def _rate_of_theirs(model: Any, ids: torch.Tensor) -> float:
    out = model(ids, use_cache=True, logits_to_keep=1)
    torch.cuda.synchronize(ids.device)
    started = time.perf_counter()
    for _ in range(_DECODED // 4):
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        out = model(token, past_key_values=out.past_key_values, use_cache=True)
    torch.cuda.synchronize(ids.device)
    return _DECODED // 4 / (time.perf_counter() - started)


def _report(figures: Figures, seconds: float) -> None:
    if figures.left_out:
        print(f"no time was left for: {'; '.join(figures.left_out)}")
    print(f"\n| {figures.card} | tokens per second | of the copy bandwidth |\n|---|--:|--:|")
    for what, rate, share in figures.rows:
        print(f"| {what} | {rate:,.0f} | {'' if share is None else f'{share:.0%}'} |")
    rows = [{"what": what, "tokens_per_second": rate, "share": share} for what, rate, share in figures.rows]
    versions = {"torch": torch.__version__, "driver": driver_and_build(), "triton": triton_version()}
    print(json.dumps({"card": figures.card, "seconds": round(seconds, 1), **versions, "figures": rows}))


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _free() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
