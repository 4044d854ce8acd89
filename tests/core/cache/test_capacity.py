"""What is said of a bounded pool is what an Engine with it can do."""

from __future__ import annotations

import pytest

from zaya_core.cache.arrangement import BLOCK
from zaya_core.cache.capacity import PoolCapacity
from zaya_core.engine.engine import Engine, Request
from zaya_core.engine.events import Finished, Parked
from zaya_core.errors import UsageError


def test_bytes_are_whole_blocks_and_too_few_are_refused_with_the_numbers(model):
    of_block = model.layout.bytes_per_block
    assert [PoolCapacity.of_bytes(room, model.layout).blocks for room in (of_block, 4 * of_block - 1)] == [1, 3]
    for room in (0, of_block - 1):
        with pytest.raises(UsageError, match=f"{room:,} bytes .* 256 tokens has {of_block:,}"):
            PoolCapacity.of_bytes(room, model.layout)


@pytest.mark.parametrize(
    ("blocks", "rows", "context", "sentence"),
    [
        (64, 4, 4096, "room for 16,384 tokens: 4 rows of 4,096"),
        (64, 16, 8192, "room for 16,384 tokens: 2 rows of 8,192, or 16 rows of 1,024"),
        (2, 16, 8192, "room for 512 tokens: 1 row of 512"),
        (3, 1, 700, "room for 768 tokens: 1 row of 700"),
        (100, 3, 9000, "room for 25,600 tokens: 2 rows of 9,000, or 3 rows of 8,448"),
    ],
)
def test_the_sentence(blocks, rows, context, sentence):
    assert PoolCapacity(blocks).sentence(rows, context) == sentence


def test_so_many_rows_run_at_once_and_one_more_has_to_wait(model, tokenizer):
    capacity = PoolCapacity(6)
    assert (capacity.rows_of(500), capacity.tokens_each(3), capacity.tokens) == (3, 2 * BLOCK, 6 * BLOCK)
    engine = Engine(model, tokenizer, max_blocks=capacity.blocks)
    ids = [engine.submit(Request([300 + n] * 240, max_tokens=200, ignore_stop_ids=True)) for n in range(4)]
    most, events = 0, []
    while not engine.is_idle:
        events += engine.step()
        most = max(most, engine.counters.running)
    assert most == 3
    assert sorted(event.request_id for event in events if isinstance(event, Finished)) == ids
    assert not any(isinstance(event, Parked) for event in events)
