"""16 streams through `zaya serve` against the bare Engine with 16 rows: what serving costs.

    python -m benchmarks.served_streams [--model FOLDER] [--streams 16] [--tokens 64] [--turns 5] [--threads N]

The Engine is a process of its own (`--side engine`) and so are the clients (this one); the two take turns, and whoever
is not asked computes nothing. The default model is the bundled one; for figures give a full-size folder
(`python -m benchmarks.full_size_checkpoint`, then `zaya quantize`). Prints tokens per second of both and the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from typing import Any

import httpx2

from benchmarks.served import ServerProcess
from benchmarks.workers import Worker, serve
from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.runtime import open_runtime
from zaya_core.engine.engine import Engine, Request
from zaya_core.sampling.params import SamplingParams


def _prompt(number: int) -> list[int]:
    """Ids of one stream: a BOS and 16 more, so that no two share a beginning."""
    return [2, *range(300 + number, 316 + number)]


def engine_side(model: str, streams: int, tokens: int, threads: int | None) -> None:
    """Answer each question with the tokens per second of one batch."""
    engine = open_runtime(RuntimeSettings(model=model, threads=threads), rows=streams).engine
    serve({"rows": engine.max_rows}, lambda question: {"rate": _rate_of_engine(engine, streams, tokens)})


def _rate_of_engine(engine: Engine, streams: int, tokens: int) -> float:
    sampling = SamplingParams(temperature=0)
    requests = [
        Request(_prompt(number), sampling, max_tokens=tokens, ignore_stop_ids=True) for number in range(streams)
    ]
    started = time.perf_counter()
    for _ in engine.generate(requests):
        pass
    return streams * tokens / (time.perf_counter() - started)


async def _rate_of_server(url: str, streams: int, tokens: int) -> float:
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=None, limits=limits) as client:
        started = time.perf_counter()
        counts = await asyncio.gather(*(_stream(client, number, tokens) for number in range(streams)))
        return sum(counts) / (time.perf_counter() - started)


async def _stream(client: httpx2.AsyncClient, number: int, tokens: int) -> int:
    """Tokens that one stream had."""
    body: dict[str, Any] = {"prompt": _prompt(number), "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    count = 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {") and (usage := json.loads(line[6:]).get("usage")):
                count = int(usage["completion_tokens"])
    return count


def main() -> None:
    """Take turns and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="demo")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--side", choices=["engine"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        engine_side(arguments.model, arguments.streams, arguments.tokens, arguments.threads)
        return
    threads = [] if arguments.threads is None else ["--threads", str(arguments.threads)]
    sizes = ["--streams", str(arguments.streams), "--tokens", str(arguments.tokens)]
    side = ["--side", "engine", "--model", arguments.model, *sizes, *threads]
    rates: dict[str, list[float]] = {"engine": [], "served": []}
    rows = ["--rows", str(arguments.streams)]
    with ServerProcess(arguments.model, *rows, *threads) as server, Worker("benchmarks.served_streams", side) as engine:
        for turn in range(arguments.turns + 1):  # the first warms up
            bare = engine.ask()["rate"]
            served = asyncio.run(_rate_of_server(server.url, arguments.streams, arguments.tokens))
            if turn:
                rates["engine"].append(bare)
                rates["served"].append(served)
    _report(rates)


def _report(rates: dict[str, list[float]]) -> None:
    for name, values in rates.items():
        print(f"{name:8}{statistics.median(values):10,.1f} tok/s, {min(values):,.1f} to {max(values):,.1f}")
    ratio = statistics.median(s / e for s, e in zip(rates["served"], rates["engine"], strict=True))
    print(f"ratio   {ratio:10.3f}")
    print(json.dumps({"ratio": ratio, **rates}))


if __name__ == "__main__":
    main()
