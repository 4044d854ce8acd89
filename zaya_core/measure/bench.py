"""How fast a model runs: prefill and decode rates at a depth and a batch size, and the bytes that a step reads.

Only the model is measured, and with `sampling` the choice of tokens; tokenizer and terminal are not.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.cache import Cache, Snapshot
from zaya_core.machine.bandwidth import BYTES, PASSES, copy_bandwidth, read_bandwidth
from zaya_core.machine.watchdog import prefill_chunk
from zaya_core.measure.card_traffic import CardTraffic
from zaya_core.measure.choices import ChoiceRecorder
from zaya_core.model.model import PREFILL_CHUNK, ZayaModel
from zaya_core.sampling.draw import RowDraw
from zaya_core.sampling.params import RandomKey, SamplingParams

_IDS = (300, 200)  # random prompt ids are drawn from the ids after the first, of so many


Kind = Literal["prefill", "decode"]


@dataclass(frozen=True)
class Case:
    """What is measured: `tokens` of all rows together, `depth` tokens behind the first of each row.

    bytes_per_step: weights, and for decode K and V, that a step reads of the device's memory; host_bytes_per_step: of
    experts that are in main memory though the model is on a card; distinct_experts: mean over layers and steps.
    launches, synchronisations: of a step on a card; None on a CPU.
    """

    kind: Kind
    batch: int
    depth: int
    tokens: int
    sampling: bool
    bytes_per_step: float
    distinct_experts: float
    host_bytes_per_step: float = 0.0
    launches: float | None = None
    synchronisations: float | None = None


@dataclass(frozen=True, kw_only=True)
class PreparedCase(Case):
    """A case whose state is there and whose work ran once uncounted. `run`: once more, the seconds that it took."""

    run: Callable[[], float]

    def rate(self) -> float:
        """Tokens per second of one more run."""
        return self.tokens / self.run()


@dataclass(frozen=True)
class Measurement:
    """A case with the rate of each repeat (tokens per second) and the bandwidth in between (bytes per second): of
    reading on a CPU, of copying on a card; host_bandwidth: of main memory, where a model on a card reads that, too."""

    case: Case
    rates: tuple[float, ...]
    read_bandwidth: float
    host_bandwidth: float | None = None

    @property
    def tokens_per_second(self) -> float:
        return statistics.mean(self.rates)

    @property
    def sd(self) -> float:
        return statistics.stdev(self.rates) if len(self.rates) > 1 else 0.0

    @property
    def share_of_bandwidth(self) -> float:
        """What a decode step reads, over what the machine could have read in its time."""
        return self.tokens_per_second / self.expected_rate

    @property
    def expected_rate(self) -> float:
        """Tokens per second if a step took as long as to read what it reads, of a card and then of main memory."""
        seconds = self.case.bytes_per_step / self.read_bandwidth
        if self.host_bandwidth is not None:
            seconds += self.case.host_bytes_per_step / self.host_bandwidth
        return self.case.batch / seconds


@dataclass
class Bench:
    """Measures one model."""

    model: ZayaModel
    repeats: int = 5
    seed: int = 0

    def measure(self, case: PreparedCase) -> Measurement:
        """Repeat a case, and read the memory's speed after each: in all at least as often as `read_bandwidth` would."""
        rates, bandwidths = [], []
        for _ in range(self.repeats):
            rates.append(case.rate())
            bandwidths.append(self._bandwidth(-(-PASSES // self.repeats)))
        host = read_bandwidth() if case.host_bytes_per_step else None
        return Measurement(case, tuple(rates), max(bandwidths), host)

    def prefill(self, tokens: int, batch: int, depth: int) -> PreparedCase:
        """Prompts of `tokens` behind `depth` tokens that are there already."""
        cache, ids = self._filled(batch, depth), self._ids(batch, tokens)
        start = self._start(cache, tokens)
        counted = self._counted(lambda model: self._prefill(model, cache, ids[:, : self._chunk]), 1)

        def run() -> float:
            cache.restore(start)
            return self._seconds(lambda: self._prefill(self.model, cache, ids))

        return PreparedCase(
            kind="prefill", batch=batch, depth=depth, tokens=batch * tokens, sampling=False, run=run, **counted
        )

    def decode(self, tokens: int, batch: int, depth: int, sampling: SamplingParams | None = None) -> PreparedCase:
        """Single steps of `batch` rows behind `depth` tokens (at least one); without `sampling` no token is chosen."""
        cache = self._filled(batch, max(depth, 1))
        start = self._start(cache, tokens)
        first = min(tokens, 8)
        counted = self._counted(lambda model: self._decode(model, cache, first, sampling), first)

        def run() -> float:
            cache.restore(start)
            return self._seconds(lambda: self._decode(self.model, cache, tokens, sampling))

        counted["bytes_per_step"] += batch * (depth + tokens / 2) * self._kv_bytes
        is_drawn = sampling is not None
        return PreparedCase(
            kind="decode", batch=batch, depth=depth, tokens=batch * tokens, sampling=is_drawn, run=run, **counted
        )

    @cached_property
    def _memory(self) -> Tensor:
        """What is read, or copied; of a card no more than a quarter of what is free."""
        nbytes = BYTES
        if self._is_on_card:
            nbytes = min(BYTES, torch.cuda.mem_get_info(self.model.device)[0] // 4)
        return torch.ones(nbytes // 8, dtype=torch.int64, device=self.model.device)

    def _bandwidth(self, passes: int) -> float:
        return (copy_bandwidth if self._is_on_card else read_bandwidth)(self._memory, passes)

    @property
    def _is_on_card(self) -> bool:
        return self.model.device.type != "cpu"

    @property
    def _chunk(self) -> int:
        return prefill_chunk(self.model.device, PREFILL_CHUNK)

    @property
    def _kv_bytes(self) -> float:
        return self.model.layout.bytes_per_block / BLOCK

    def _decode(self, model: ZayaModel, cache: Cache, tokens: int, sampling: SamplingParams | None) -> None:
        ids = self._ids(len(cache.lengths), tokens)  # given: what random weights choose soon is the same in all rows
        for step in range(tokens):
            logits = model(ids[:, step : step + 1], cache)
            if sampling is not None:
                model.steps.draw(logits[:, -1], [RowDraw(sampling, RandomKey(sampling.seed), step)] * len(ids))

    def _prefill(self, model: ZayaModel, cache: Cache, ids: Tensor) -> None:
        for chunk in ids.split(self._chunk, dim=1):
            model(chunk, cache, last_only=True)

    @torch.inference_mode()
    def _filled(self, batch: int, depth: int) -> Cache:
        """A cache of `depth` positions; those behind the first chunk are copies, since a rate needs no sense."""
        cache = self.model.new_cache(batch)
        if depth:
            self._prefill(self.model, cache, self._ids(batch, min(depth, self._chunk)))
            cache.repeat_to(depth)
        return cache

    def _start(self, cache: Cache, tokens: int) -> Snapshot:
        """Where every run begins; the pool does not grow in any of them."""
        start = cache.snapshot()
        cache.pool.reserve(cache.blocks_for(tokens))
        return start

    def _ids(self, batch: int, tokens: int) -> Tensor:
        first, many = _IDS
        generator = torch.Generator().manual_seed(self.seed)
        last = min(first + many * tokens, self.model.config.vocab_size)
        return torch.randint(min(first, last - 1), last, (batch, tokens), generator=generator)

    def _counted(self, work: Callable[[ZayaModel], Any], passes: int) -> dict[str, Any]:
        """What a pass is in numbers, by the fields of `Case`, from a run that is not timed and warms up."""
        recorder, traffic = ChoiceRecorder(self.model.steps), CardTraffic()
        with traffic if self._is_on_card else nullcontext():
            work(replace(self.model, steps=recorder))
        experts, steps = recorder.distinct_experts, self.model.steps
        return {
            "distinct_experts": experts,
            "bytes_per_step": steps.step_bytes(experts),
            "host_bytes_per_step": steps.host_step_bytes(experts),
            "launches": traffic.launches.total() / passes if self._is_on_card else None,
            "synchronisations": traffic.synchronisations.total() / passes if self._is_on_card else None,
        }

    def _seconds(self, work: Callable[[], Any]) -> float:
        self._synchronise()
        started = time.perf_counter()
        work()
        self._synchronise()
        return time.perf_counter() - started

    def _synchronise(self) -> None:
        if self._is_on_card:
            torch.cuda.synchronize(self.model.device)
