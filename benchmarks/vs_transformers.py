"""Prefill and decode of one checkpoint on the CPU, zaya beside transformers in bf16.

    python -m benchmarks.vs_transformers FOLDER [--prompt 512] [--tokens 16] [--repeats 3] [--without-bf16-instructions]
    python -m benchmarks.vs_transformers FOLDER --quant int4 --dense int4

Each side runs in a process of its own, one after the other, since two copies of the model do not fit into most
machines; transformers gets the faster of its two implementations of experts. With `--quant` zaya's side has random
weights of the same sizes in that format, as `zaya bench --dummy` makes them. `--without-bf16-instructions` hides them
from both sides, which is how processors behave that do not have them (most laptops). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from quant.kernels.native import supported_instruction_sets
from zaya_core.machine.bandwidth import read_bandwidth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=16, help="tokens to decode")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quant", choices=("int4", "int8"), help="format of zaya's experts; transformers keeps bf16")
    parser.add_argument("--dense", choices=("int4", "int8", "bf16"), default="int8", help="with --quant: of the rest")
    parser.add_argument("--without-bf16-instructions", action="store_true")
    parser.add_argument("--side", choices=("zaya", "transformers", "bandwidth"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        torch.set_num_threads(arguments.threads)
        print(json.dumps(_SIDES[arguments.side](arguments)))
    else:
        _compare(arguments)


def _compare(arguments: argparse.Namespace) -> None:
    figures = {side: _run_side(side, arguments) for side in ("bandwidth", "zaya", "transformers")}
    ours, theirs = figures["zaya"], figures["transformers"]
    print(f"{'':24}{'zaya':>10}{'transformers':>14}{'ratio':>8}")
    for row in ("prefill", "decode"):
        ratio = ours[row] / theirs[row]
        print(f"{row + ' tok/s':24}{ours[row]:10.2f}{theirs[row]:14.2f}{ratio:8.2f}")
    for row in ("load_seconds", "peak_gigabytes"):
        print(f"{row.replace('_', ' '):24}{ours[row]:10.1f}{theirs[row]:14.1f}")
    bandwidth = figures["bandwidth"]["gigabytes_per_second"]
    print(f"read bandwidth {bandwidth:.1f} GB/s; experts of transformers: {theirs['experts']}")
    settings = {key: value for key, value in vars(arguments).items() if key not in ("side", "folder")}
    ratios = {row: round(ours[row] / theirs[row], 3) for row in ("prefill", "decode")}
    print(json.dumps({**figures, "ratios": ratios, "settings": settings, "torch": torch.__version__}))


def _run_side(side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.vs_transformers", arguments.folder, "--side", side]
    for name in ("prompt", "tokens", "repeats", "threads"):
        command += [f"--{name}", str(getattr(arguments, name))]
    if arguments.quant:
        command += ["--quant", arguments.quant, "--dense", arguments.dense]
    environment = dict(os.environ)
    if arguments.without_bf16_instructions and "avx512bf16" in supported_instruction_sets():
        environment |= {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI", "ZAYA_KERNELS": "native:avx512vnni"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _bandwidth(_: argparse.Namespace) -> dict[str, Any]:
    return {"gigabytes_per_second": round(read_bandwidth() / 1e9, 2)}


def _measure(
    arguments: argparse.Namespace, prefill: Callable[[torch.Tensor], Any], decode: Callable[[Any], Any]
) -> dict[str, float]:
    """Median rates. `prefill` makes a state from ids, `decode` moves it on by one token."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(300, 260_000, (1, arguments.prompt), generator=generator)
    state = prefill(ids)
    prefills = [_seconds(lambda: prefill(ids)) for _ in range(arguments.repeats)]
    for _ in range(4):  # the pages of experts that the prompt did not use
        decode(state)
    decodes = [_seconds(lambda: [decode(state) for _ in range(arguments.tokens)]) for _ in range(arguments.repeats)]
    return {
        "prefill": arguments.prompt / statistics.median(prefills),
        "decode": arguments.tokens / statistics.median(decodes),
    }


def _zaya(arguments: argparse.Namespace) -> dict[str, Any]:
    from zaya_core.load import load_model
    from zaya_core.machine.memory import keep_freed_memory, peak_memory_bytes, spare_the_collector
    from zaya_core.measure.dummy import dummy_model

    keep_freed_memory()  # this and the collector as the program does
    started = time.perf_counter()
    quant, dense = arguments.quant, arguments.dense
    model = dummy_model(quant, dense) if quant else load_model(arguments.folder, device="cpu")
    load_seconds = time.perf_counter() - started
    spare_the_collector()

    def prefill(ids: torch.Tensor) -> list[Any]:
        cache = model.new_cache()
        return [cache, model(ids, cache, last_only=True)]

    def decode(state: list[Any]) -> None:
        state[1] = model(state[1][:, -1].argmax(-1, keepdim=True), state[0])

    rates = _measure(arguments, prefill, decode)
    return {**rates, "load_seconds": load_seconds, "peak_gigabytes": peak_memory_bytes(model.device) / 1e9}


def _transformers(arguments: argparse.Namespace) -> dict[str, Any]:
    from transformers import ZayaForCausalLM

    from zaya_core.machine.memory import peak_memory_bytes

    started = time.perf_counter()
    model = ZayaForCausalLM.from_pretrained(arguments.folder, dtype=torch.bfloat16)
    load_seconds = time.perf_counter() - started

    def prefill(ids: torch.Tensor) -> Any:
        return [model(ids, use_cache=True, logits_to_keep=1)]

    def decode(state: list[Any]) -> None:
        token = state[0].logits[:, -1].argmax(-1, keepdim=True)
        state[0] = model(token, past_key_values=state[0].past_key_values, use_cache=True)

    best: dict[str, Any] = {"prefill": 0.0, "decode": 0.0, "experts": {}}
    with torch.inference_mode():
        for experts in ("eager", "grouped_mm"):
            model.set_experts_implementation(experts)
            rates = _measure(arguments, prefill, decode)
            best["experts"][experts] = {row: round(rate, 3) for row, rate in rates.items()}
            best |= {row: max(best[row], rate) for row, rate in rates.items()}
    peak = peak_memory_bytes(torch.device("cpu")) / 1e9
    return {**best, "load_seconds": load_seconds, "peak_gigabytes": peak}


def _seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


_SIDES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "bandwidth": _bandwidth,
    "zaya": _zaya,
    "transformers": _transformers,
}


if __name__ == "__main__":
    main()
