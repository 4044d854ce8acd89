"""What the Engine is doing, as numbers that do not change: its rows one by one, and in all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zaya_core.engine.row import Row

RowState = Literal["waiting", "prefilling", "running", "parked"]


@dataclass(frozen=True)
class RowView:
    """A request that is open.

    position: prompt and generated tokens whose keys and values there are, of a parked row in host memory. generated:
    tokens that were chosen, thinking_tokens of them in thinking. is_thinking: so will the next one be. max_tokens: most
    that are generated. thinking_budget: as it was asked for.
    """

    request_id: int
    state: RowState
    prompt_tokens: int
    position: int
    generated: int
    thinking_tokens: int
    is_thinking: bool
    max_tokens: int
    thinking_budget: int | None

    @classmethod
    def of(cls, row: Row, state: RowState) -> RowView:
        return cls(
            request_id=row.id,
            state=state,
            prompt_tokens=len(row.prompt),
            position=row.position + max(0, len(row.tokens) - 1),  # the last token was chosen but not yet computed
            generated=row.completion_tokens,
            thinking_tokens=row.thinking_tokens,
            is_thinking=row.is_thinking,
            max_tokens=row.max_tokens,
            thinking_budget=row.request.thinking_budget,
        )


@dataclass
class Totals:
    """What the Engine has done since it was made."""

    steps: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0


@dataclass(frozen=True)
class Counters:
    """Requests by state, blocks of keys and values, kept prefixes and the blocks they hold; then totals.

    blocks_total: most that there can be, None for no bound. Since the Engine was made: steps; prompt tokens that were
    computed, those of prompts begun again twice, and those taken from kept prefixes; tokens generated.
    """

    waiting: int
    prefilling: int
    running: int
    parked: int
    blocks_used: int
    blocks_total: int | None
    prefixes: int
    prefix_blocks: int
    steps: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
