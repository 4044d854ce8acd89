"""`zaya serve` under load: is anything lost, wrong, late, or never given back?

    python -m benchmarks.soak [--seconds 90] [--clients 8] [--model demo]

The server is a process, the clients are one asyncio program beside it: streams, whole answers, two choices at once,
clients that leave, slow readers, damaged bodies and prompts that are too long. Every complete greedy answer is compared
with the Engine's. Prints a table; the exit status is 1 when a condition is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httpx2
import psutil

from benchmarks.served import ServerProcess, metric
from benchmarks.soak_traffic import CLASSES, Traffic, answers_of_the_engine

_HEALTH_EVERY = 0.1  # seconds
_HEALTH_MOST = 0.5  # seconds, of 99 in 100
_FILES = 2  # more or fewer that may be open than at the start
_POOLED = 4  # threads of pools, which begin when they are first needed


@dataclass
class Record:
    """What happened. seconds: by class, of each request; health: of each question; states: before and after."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in CLASSES})
    health: list[float] = field(default_factory=list)
    broken: Counter[str] = field(default_factory=Counter)

    def expect(self, condition: bool, what: str) -> None:
        """Note what is broken."""
        if not condition:
            self.broken[what] += 1


@dataclass(frozen=True)
class Footprint:
    """Of a server that does nothing: open files, threads, and blocks that no kept prefix holds."""

    files: int
    threads: int
    blocks: int


def soak(model: str, seconds: float, clients: int, seed: int = 0, threads: int = 1) -> Record:
    """Run it. threads: that compute; where clients need the cores too, several wait for each other most of the time.

    Raises RuntimeError when the server does not start.
    """
    expected, record = answers_of_the_engine(model), Record()
    with ServerProcess(model, "--metrics", "--threads", str(threads)) as server:
        asyncio.run(_soak(server, expected, record, seconds, clients, seed))
        code = server.stop()
    record.expect(code == 0, f"the server's exit code is {code}")
    record.expect("Traceback" not in server.err, "a traceback on stderr")
    return record


async def _soak(
    server: ServerProcess, expected: dict[str, str], record: Record, seconds: float, clients: int, seed: int
) -> None:
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
        traffic = Traffic(client, expected)
        for name in CLASSES:  # what is opened once is open before it is counted
            await traffic.one(name, random.Random(seed))
        await _idle(client, record)
        before = await _footprint(client, server)
        until = time.monotonic() + seconds
        watch = asyncio.create_task(_watch(server.url, record))
        await asyncio.gather(*(_client(traffic, record, until, random.Random(f"{seed} {i}")) for i in range(clients)))
        watch.cancel()
        await _idle(client, record)
        _compare(before, await _footprint(client, server), record)


async def _client(traffic: Traffic, record: Record, until: float, rng: random.Random) -> None:
    """One after the other, until the time is over."""
    names, shares = zip(*CLASSES.items(), strict=True)
    while time.monotonic() < until:
        (name,) = rng.choices(names, shares)
        started = time.monotonic()
        try:
            wrong = await asyncio.wait_for(traffic.one(name, rng), 60)
        except (httpx2.HTTPError, TimeoutError, asyncio.TimeoutError, ValueError, KeyError, IndexError) as error:
            wrong = type(error).__name__
        record.seconds[name].append(time.monotonic() - started)
        record.expect(wrong is None, f"{name}: {wrong}")


async def _watch(url: str, record: Record) -> None:
    """How long `/health` takes, by a connection of its own, until it is cancelled."""
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        while True:
            started = time.monotonic()
            response = await client.get("/health")
            record.health.append(time.monotonic() - started)
            record.expect(response.status_code == 200, f"/health answers {response.status_code}")
            await asyncio.sleep(_HEALTH_EVERY)


async def _idle(client: httpx2.AsyncClient, record: Record) -> None:
    """Wait until no row is taken, at most a second."""

    async def is_idle() -> bool:
        return not any(slot["is_processing"] for slot in (await client.get("/slots")).json())

    record.expect(await _becomes(is_idle, 1.0), "rows are taken a second after the last request")


async def _becomes(condition: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if await condition():
            return True
        await asyncio.sleep(0.02)
    return False


async def _footprint(client: httpx2.AsyncClient, server: ServerProcess) -> Footprint:
    figures = (await client.get("/metrics")).text
    process = psutil.Process(server.pid)
    files = process.num_handles() if sys.platform == "win32" else process.num_fds()
    files -= sum(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections("tcp"))
    blocks = metric(figures, "zaya_kv_blocks_used") - metric(figures, "zaya_prefix_blocks")
    return Footprint(files, process.num_threads(), int(blocks))


def _compare(before: Footprint, after: Footprint, record: Record) -> None:
    record.expect(abs(after.files - before.files) <= _FILES, f"open files: {before.files}, then {after.files}")
    record.expect(after.threads <= before.threads + _POOLED, f"threads: {before.threads}, then {after.threads}")
    record.expect(after.blocks == before.blocks, f"blocks in use: {before.blocks}, then {after.blocks}")
    late = percentile(record.health, 0.99)
    record.expect(late <= _HEALTH_MOST, f"/health takes {late:.3f} s in one of 100 cases")


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 of none."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def report(record: Record) -> None:
    """The table, then what is broken."""
    print("| requests | number | median s | most s |\n|---|--:|--:|--:|")
    for name, seconds in [*record.seconds.items(), ("/health", record.health)]:
        print(f"| {name} | {len(seconds)} | {percentile(seconds, 0.5):.3f} | {max(seconds, default=0.0):.3f} |")
    print(f"/health, 99 of 100: {percentile(record.health, 0.99):.3f} s")
    for what, times in record.broken.items():
        print(f"BROKEN, {times} times: {what}")


def main() -> int:
    """Soak and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of the server that compute")
    arguments = parser.parse_args()
    record = soak(arguments.model, arguments.seconds, arguments.clients, arguments.seed, arguments.threads)
    report(record)
    return int(bool(record.broken))


if __name__ == "__main__":
    sys.exit(main())
