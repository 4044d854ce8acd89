"""Whether a model fits on a graphics card, and how much of it: decided before it is loaded.

A card that is full fails in the middle of an answer, or its driver spills into the system's memory without a word
(Windows). So there is nothing between "fits" and "does not fit", and a part of the card is left alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

from zaya_core.config.kv_format import KVFormat
from zaya_core.config.model_config import ModelConfig
from zaya_core.machine.memory_fit import USUAL_CONTEXT, MemoryNeed, expert_bytes, loaded_bytes

# As `zaya_core.model.model.PREFILL_CHUNK` and `zaya_core.cache.arrangement.BLOCK`, which stand on higher floors.
CHUNK, BLOCK = 1024, 256
SLICE = 1 << 23  # weights, as `quant.card_products.SLICE`, which needs torch
LEAST_LEFT, SHARE_LEFT = 600_000_000, 0.1  # bytes, and of the card: kernels that load later, the desktop, fragments
SCORES_BYTES = 256 << 20  # what one call of attention may use for its scores
LIBRARY_BYTES = 64 << 20  # what cuBLAS and its like keep
_KEPT_STATES = 16 + 3  # of prefixes (`MAX_PREFIXES`); before and behind a pass, and while rows join


def usable_bytes(total: int, free: int, most: int | None = None) -> int:
    """Of a card with so many bytes in all and free. most: what was granted; a part of that is left alone, too."""
    usable = free - _left_alone(total)
    return max(0, usable if most is None else min(usable, most - _left_alone(min(most, total))))


def least_grant(needed: int) -> int:
    """Bytes to grant of a card so that `needed` of them can be used, where as many are free."""
    return max(needed + LEAST_LEFT, math.ceil(needed / (1 - SHARE_LEFT)))


def _left_alone(total: int) -> int:
    return max(LEAST_LEFT, int(SHARE_LEFT * total))


@dataclass(frozen=True)
class OnCard:
    """A model as it is to lie on a card.

    context: tokens of one conversation, which must fit; rows: most that run at once. bytes_per_value: of the dtype that
    is computed in, which keys, values and matrices have that are not packed. cpu_experts: of so many layers the experts
    stay in host memory.
    """

    config: ModelConfig
    context: int = USUAL_CONTEXT
    rows: int = 1
    kv: KVFormat = "auto"
    bytes_per_value: int = 2
    cpu_experts: int = 0

    @cached_property
    def need(self) -> MemoryNeed:
        """On the card. Rows' state but their keys and values is a part of `workspace`."""
        positions = BLOCK * self._blocks_of(self.context)
        work = self._work + positions * self._gathered
        return MemoryNeed(self._weights, positions * self._keys_and_values, work)

    def fits(self, usable: int) -> bool:
        """Whether one conversation of the whole context does, into so many bytes of a card."""
        return self.need.total <= usable

    def with_fewest_cpu_experts(self, usable: int) -> OnCard | None:
        """With as many layers' experts in host memory as it takes to fit; None where all of them are too few."""
        missing = replace(self, cpu_experts=0).need.total - usable
        layers = max(0, -(-missing // self._experts))
        return replace(self, cpu_experts=layers) if layers <= self.config.num_hidden_layers else None

    def with_fewer_rows(self, usable: int, least: int) -> OnCard:
        """With half as many rows at once, or a quarter and so on, where all do not fit; not with less than `least`."""
        if self.rows <= least or self.fits(usable):
            return self
        return replace(self, rows=max(least, self.rows // 2)).with_fewer_rows(usable, least)

    def longest_context(self, usable: int) -> int:
        """Tokens of one conversation that would fit, in steps of 1,024; 0 for none."""
        tokens = self._positions(usable) // 1024 * 1024
        return min(tokens, self.config.max_position_embeddings)

    def pool_blocks(self, usable: int, longest: int) -> int:
        """Blocks of keys and values: what the card has left, up to what all rows of `longest` tokens can use.

        At least those of one conversation of `context` tokens, also where they do not fit.
        """
        most = self.rows * self._blocks_of(longest)
        return max(self._blocks_of(self.context), min(most, self._positions(usable) // BLOCK))

    def _positions(self, usable: int) -> int:
        left = usable - self._weights - self._work
        return max(0, left) // (self._keys_and_values + self._gathered)

    def _blocks_of(self, tokens: int) -> int:
        return -(-min(tokens, self.config.max_position_embeddings) // BLOCK)

    @cached_property
    def _experts(self) -> int:
        return expert_bytes(self.config, self.bytes_per_value)

    @cached_property
    def _weights(self) -> int:
        return loaded_bytes(self.config, self.bytes_per_value) - self.cpu_experts * self._experts

    @cached_property
    def _keys_and_values(self) -> int:
        """Bytes of one position."""
        return self.config.kv_bytes_per_token(self.bytes_per_value, self.kv)

    @property
    def _gathered(self) -> int:
        """Bytes of one position in the work of attention: a layer's keys and values as rows, read and in float32, and
        whether each token of a chunk sees it."""
        row = self.config.num_key_value_heads * self.config.head_dim
        return 2 * row * (self.bytes_per_value + 4) + CHUNK

    @property
    def _work(self) -> int:
        """Bytes besides, whatever the context: states of rows, and the largest step of a pass beside its residual."""
        residual = 3 * 4 * self._tokens * self.config.hidden_size
        largest = max(self._projection_work, SCORES_BYTES, self._expert_work, self._logits_work)
        return LIBRARY_BYTES + self._states + residual + largest

    @property
    def _tokens(self) -> int:
        """Of one pass."""
        return max(CHUNK, self.rows)

    @property
    def _states(self) -> int:
        """CCA's convolution tails and delayed values."""
        config = self.config
        row = config.num_hidden_layers * (config.conv_tail * config.cca_channels + config.delayed_width)
        return row * self.bytes_per_value * (_KEPT_STATES + 3 * self.rows)

    @property
    def _projection_work(self) -> int:
        """Queries, keys and their windows in float32, before and behind both convolutions."""
        config = self.config
        return 4 * self._tokens * (2 * config.hidden_size + 10 * config.cca_channels)

    @property
    def _expert_work(self) -> int:
        """Rows in the order of experts, gate and up, their product; and one expert's matrix while it is unpacked."""
        config = self.config
        return 4 * self._tokens * (6 * config.hidden_size + 6 * config.moe_intermediate_size) + self._unpacked

    @property
    def _unpacked(self) -> int:
        """A slice of packed weights, in float32 and on the way to it."""
        return 0 if self.config.quantization is None else 3 * 4 * SLICE

    @property
    def _logits_work(self) -> int:
        """Of all rows: twice while they are put together from slices of the head; or sorted, to choose tokens."""
        logits = 4 * self.config.vocab_size * self.rows
        return max(2 * logits + self._unpacked, 10 * logits)
