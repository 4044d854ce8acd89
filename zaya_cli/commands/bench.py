"""`zaya bench`: prefill and decode rates of a model, or of random weights of its sizes, beside the memory's speed."""

from __future__ import annotations

import csv
import platform
import sys
from collections.abc import Iterator
from itertools import tee
from typing import Any

import torch

from zaya_cli.commands.bench_model import open_model
from zaya_cli.flags.bench import BenchSettings
from zaya_cli.flags.typed import typed
from zaya_cli.machine.hardware import processor
from zaya_cli.machine.threads import threads_to_use
from zaya_cli.machine.versions import installed_version
from zaya_cli.sizes import dtype_name
from zaya_cli.terminal.output import stdout_console, write_json
from zaya_core.errors import UsageError, ZayaError
from zaya_core.kernels.resolve import products_in_use
from zaya_core.machine.memory import keep_freed_memory, peak_memory_bytes, spare_the_collector
from zaya_core.measure.bench import Bench, Measurement
from zaya_core.model.model import ZayaModel
from zaya_core.sampling.params import SamplingParams

_LEAST_EXPERTS_AT_8 = 6.0  # of 16, as a trained model spreads 8 rows; with fewer a step would read too little


def bench(settings: BenchSettings) -> None:
    """Measure and print. Raises UsageError for impossible settings, and the errors of loading."""
    prompts, tokens = _numbers("-p", settings.prompts, 0), _numbers("-n", settings.tokens, 0)
    depths, batches = _numbers("-d", settings.depths, 0), _numbers("-b", settings.batches, 1)
    if settings.dummy and settings.model is not None:
        raise UsageError(f"--dummy measures random weights, --model {settings.model} a model: leave one of them out.")
    if settings.repeats < 1 or not depths or not batches:
        raise UsageError("Nothing would be measured: -r must be 1 or more, -d and -b need a number each.")
    products_in_use()  # what ZAYA_KERNELS asks for must be there
    torch.set_num_threads(threads := threads_to_use(settings.threads))
    keep_freed_memory()
    model, name, cpu_experts = open_model(settings, context=max(depths) + max([*prompts, *tokens, 1]))
    spare_the_collector()
    cases = [(depth, batch) for depth in depths for batch in batches]
    shown, checked = tee(_measure(Bench(model, settings.repeats), cases, prompts, tokens))
    facts = {"machine": machine_facts(model, threads), "model": _model_facts(model, name, cpu_experts)}
    _WRITERS[settings.format](shown, facts)
    if settings.dummy:
        _expect_spread(checked)


def _numbers(flag: str, text: str, least: int) -> list[int]:
    try:
        numbers: list[int] = [typed(int, part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"{flag} is {text!r}; give whole numbers with commas, such as 1,8.") from None
    if any(number < least for number in numbers):
        raise UsageError(f"{flag} is {text!r}; every number must be {least} or more.")
    return numbers


def _measure(
    bench: Bench, cases: list[tuple[int, int]], prompts: list[int], tokens: list[int]
) -> Iterator[Measurement]:
    for depth, batch in cases:
        for count in filter(None, prompts):
            yield bench.measure(bench.prefill(count, batch, depth))
        for count in filter(None, tokens):
            yield bench.measure(bench.decode(count, batch, depth))
            yield bench.measure(bench.decode(count, batch, depth, SamplingParams()))


def _uses_too_few_experts(measurement: Measurement) -> bool:
    case = measurement.case
    return case.kind == "decode" and case.batch >= 8 and case.distinct_experts < _LEAST_EXPERTS_AT_8


def _expect_spread(results: Iterator[Measurement]) -> None:
    few = [one.case.distinct_experts for one in results if _uses_too_few_experts(one)]
    if few:
        raise ZayaError(
            f"8 rows or more used {min(few):.1f} experts a layer, where a trained model uses {_LEAST_EXPERTS_AT_8:.0f} "
            "or more: the rates above are better than real ones. Please report it."
        )


def machine_facts(model: ZayaModel, threads: int) -> dict[str, Any]:
    """What a rate depends on besides the model, for the last line of JSON."""
    on_card = [] if model.device.type == "cpu" else [f"{model.device}: {model.steps.name}"]
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "device": str(model.device),
        "threads": threads,
        "zaya": installed_version(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "kernels": [*(one.name for one in products_in_use()), *on_card],
    }


def _model_facts(model: ZayaModel, name: str, cpu_experts: int) -> dict[str, Any]:
    packed, dtype, kv = model.config.quantization, dtype_name(model.dtype), model.layout.kv
    beside = {"cpu_experts": cpu_experts} if cpu_experts else {}
    format = packed.describe() if packed else dtype
    return {"name": name, "format": format, "kv": dtype if kv == "auto" else kv, **beside}


# --- output -----------------------------------------------------------------------------------------------------------


def _as_dict(measurement: Measurement, device: str) -> dict[str, Any]:
    """peak_memory_bytes: the most of this process until now."""
    case = measurement.case
    first_token = {"seconds_to_first_token": _seconds_to_first_token(measurement)} if case.kind == "prefill" else {}
    read = {
        "bytes_per_step": case.bytes_per_step,
        "bytes_per_token": case.bytes_per_step / case.batch,
        "read_bandwidth": measurement.read_bandwidth,
        "share_of_bandwidth": measurement.share_of_bandwidth,
        "expected_tokens_per_second": measurement.expected_rate,
    }
    card = {"launches_per_step": case.launches, "synchronisations_per_step": case.synchronisations}
    host = {"host_bytes_per_step": case.host_bytes_per_step, "host_read_bandwidth": measurement.host_bandwidth}
    return {
        "kind": case.kind,
        "sampling": case.sampling,
        "batch": case.batch,
        "depth": case.depth,
        "tokens": case.tokens,
        "tokens_per_second": measurement.tokens_per_second,
        "sd": measurement.sd,
        "distinct_experts": case.distinct_experts,
        **(read if case.kind == "decode" else {}),
        **(card if case.launches is not None else {}),
        **(host if measurement.host_bandwidth is not None else {}),
        **first_token,
        "peak_memory_bytes": peak_memory_bytes(torch.device(device)),
    }


def _seconds_to_first_token(measurement: Measurement) -> float:
    """All rows of the batch wait for the whole of it."""
    return measurement.case.tokens / measurement.tokens_per_second


def _note(measurement: Measurement) -> str:
    case, asked = measurement.case, ""
    if case.launches is not None:
        asked = f"; {case.launches:,.0f} launches, {case.synchronisations:,.0f} waits for the card"
    if case.kind == "prefill":
        return f"first token after {_seconds_to_first_token(measurement):.2f} s{asked}"
    few = _uses_too_few_experts(measurement)
    warning = f"; too few experts ({_LEAST_EXPERTS_AT_8:.0f} or more are real)" if few else ""
    return f"{_read(measurement)}{asked}{warning}"


def _read(measurement: Measurement) -> str:
    """What a step reads, and how much of the time that takes at best."""
    case, speed = measurement.case, f"{measurement.read_bandwidth / 1e9:.1f} GB/s"
    if measurement.host_bandwidth is None:
        return f"{case.bytes_per_step / 1e9:.2f} GB a step, {measurement.share_of_bandwidth:.0%} of {speed}"
    host = f"{case.host_bytes_per_step / 1e9:.2f} GB of main memory at {measurement.host_bandwidth / 1e9:.1f} GB/s"
    expected = f"{measurement.share_of_bandwidth:.0%} of the {measurement.expected_rate:.1f} tok/s that both allow"
    return f"{case.bytes_per_step / 1e9:.2f} GB of the card at {speed} and {host} a step, {expected}"


def _write_md(results: Iterator[Measurement], facts: dict[str, Any]) -> None:
    machine, model = facts["machine"], facts["model"]
    kernels, console = "; ".join(machine["kernels"]), stdout_console()
    beside = f", the experts of {model['cpu_experts']} layers in main memory" if "cpu_experts" in model else ""
    kinds = f"{model['format']}, K/V {model['kv']}{beside}"
    console.print(f"{model['name']} ({kinds}), {kernels}, {machine['threads']} threads")
    console.print(f"zaya {machine['zaya']}, torch {machine['torch']}, {machine['device']}, {machine['platform']}\n")
    console.print("| test | batch | depth | tok/s | ± | experts a layer | |\n|---|--:|--:|--:|--:|--:|---|")
    for one in results:
        case = one.case
        test = f"{case.kind} {case.tokens // case.batch}" + (", sampling" if case.sampling else "")
        rates = f"{one.tokens_per_second:.2f} | {one.sd:.2f} | {case.distinct_experts:.1f}"
        console.print(f"| {test} | {case.batch} | {case.depth} | {rates} | {_note(one)} |")
    console.print(f"\npeak memory {peak_memory_bytes(torch.device(machine['device'])) / 1e9:.1f} GB")


def _write_csv(results: Iterator[Measurement], facts: dict[str, Any]) -> None:
    rows = [_as_dict(one, facts["machine"]["device"]) for one in results]
    columns = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _write_json(results: Iterator[Measurement], facts: dict[str, Any]) -> None:
    rows = [_as_dict(one, facts["machine"]["device"]) for one in results]
    write_json(
        {"results": rows, **facts, "peak_memory_bytes": max((row["peak_memory_bytes"] for row in rows), default=0)}
    )


def _write_jsonl(results: Iterator[Measurement], facts: dict[str, Any]) -> None:
    write_json(facts)
    for one in results:
        write_json(_as_dict(one, facts["machine"]["device"]))


_WRITERS = {"md": _write_md, "csv": _write_csv, "json": _write_json, "jsonl": _write_jsonl}
