"""The memory of keys and values has the bound that was asked for, and the start line says what it holds."""

from __future__ import annotations

import pytest

from zaya_cli.flags.runtime import RuntimeSettings
from zaya_cli.runtime import open_runtime
from zaya_cli.serve.settings import ServeSettings
from zaya_cli.serve.started import start_line
from zaya_core.cache.arrangement import BLOCK

DEMO = RuntimeSettings(model="demo", device="cpu")


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        (4 * 4096, "4 rows of 4,096 tokens"),
        (2 * 4096, "of keys and values, or 2 of 4,096"),
        (64, "of keys and values"),
        (0, "of keys and values"),
    ],
)
def test_keys_and_values_take_no_more_than_was_granted(blocks, said):
    layout = open_runtime(DEMO, 4).engine.model.layout
    granted = layout.bytes_per_block * blocks // BLOCK
    runtime = open_runtime(DEMO, 4, granted + 1)
    pool = runtime.engine.states.pool
    assert pool.capacity == max(1, blocks // BLOCK)
    line = start_line(runtime, ServeSettings(), "http://127.0.0.1:8080/v1")
    assert said in line
    assert f"4 rows of {min(4096, int(pool.capacity) * BLOCK // 4):,} tokens" in line
    assert all(word in line for word in ("demo", "http://127.0.0.1:8080/v1", "without a key", "computed by"))


def test_a_server_with_keys_does_not_say_that_it_has_none():
    line = start_line(open_runtime(DEMO, 1), ServeSettings(api_keys=("some-secret-key",)), "http://127.0.0.1:8080/v1")
    assert "without a key" not in line
    assert "secret" not in line
