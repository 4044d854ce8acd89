"""How fast a model runs, in a few seconds: one prompt and some steps. `zaya bench` measures longer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from zaya_core.machine.bandwidth import read_bandwidth
from zaya_core.measure.bench import Bench, Case
from zaya_core.model.model import ZayaModel

PROMPT, STEPS = 128, 16  # tokens
_BLOCK_BYTES, _PASSES = 512 << 20, 5  # read for the memory's speed; `zaya bench` reads more


@dataclass(frozen=True)
class Speed:
    """Tokens per second. decode_case: what was measured. read_bandwidth: bytes per second; None where it is not known.

    share_of_bandwidth: of what the memory could have given, how much the steps read.
    """

    prefill: float
    decode: float
    decode_case: Case
    read_bandwidth: float | None

    @property
    def share_of_bandwidth(self) -> float | None:
        read = self.decode_case.bytes_per_step * self.decode
        return None if self.read_bandwidth is None else read / self.read_bandwidth


def measure_speed(model: ZayaModel) -> Speed:
    """One row, nothing before it. The bandwidth is that of main memory, hence unknown for another device."""
    bench = Bench(model)
    prefill, decode = bench.prefill(PROMPT, 1, 0), bench.decode(STEPS, 1, 0)
    rates = prefill.rate(), decode.rate()
    on_cpu = model.device.type == "cpu"
    block = torch.ones(_BLOCK_BYTES // 8, dtype=torch.int64) if on_cpu else None
    return Speed(*rates, decode, None if block is None else read_bandwidth(block, _PASSES))
