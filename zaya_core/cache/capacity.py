"""How many rows of which length a bounded pool of keys and values holds, before there is one."""

from __future__ import annotations

from dataclasses import dataclass

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.layout import CacheLayout
from zaya_core.errors import UsageError
from zaya_core.whole_numbers import expect_whole


@dataclass(frozen=True)
class PoolCapacity:
    """Of `blocks` blocks, the `max_blocks` of an Engine. A row takes whole blocks; kept prefixes give theirs up."""

    blocks: int

    @classmethod
    def of_bytes(cls, room: int, layout: CacheLayout) -> PoolCapacity:
        """What fits into so many bytes, 0 or more. Raises UsageError where not one block does."""
        blocks = expect_whole("the bytes", room, 0) // layout.bytes_per_block
        if not blocks:
            raise UsageError(
                f"{room:,} bytes are too few for keys and values: a block of {BLOCK} tokens has "
                f"{layout.bytes_per_block:,} bytes."
            )
        return cls(blocks)

    @property
    def tokens(self) -> int:
        """Of all rows; the longest context that one row can fill."""
        return self.blocks * BLOCK

    def rows_of(self, tokens: int) -> int:
        """How many rows of so many tokens, at least 1, have room at once."""
        return self.blocks // -(-expect_whole("the tokens", tokens, 1) // BLOCK)

    def tokens_each(self, rows: int) -> int:
        """How long each of so many rows, at least 1, may become when all are as long."""
        return self.blocks // expect_whole("the rows", rows, 1) * BLOCK

    def sentence(self, rows: int, context: int) -> str:
        """For people, of an Engine of so many rows at once and this context."""
        longest = min(context, self.tokens)
        at_once, each = min(rows, self.rows_of(longest)), min(longest, self.tokens_each(rows))
        whole = f"room for {self.tokens:,} tokens: {_rows(at_once)} of {longest:,}"
        return whole if at_once == rows or not each else f"{whole}, or {_rows(rows)} of {each:,}"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"
