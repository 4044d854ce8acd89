"""`zaya bench` on a card: its own memory is measured, and how often it is asked and waited for."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tests.gpu.simulated_card import Card, simulated_cards
from zaya_cli.app import app
from zaya_core.machine import bandwidth


@pytest.fixture
def quickly_read(monkeypatch):
    monkeypatch.setattr("zaya_core.measure.bench.BYTES", 1 << 20)
    monkeypatch.setattr(bandwidth, "BYTES", 1 << 20)


@pytest.mark.usefixtures("quickly_read")
def test_a_bench_tells_launches_and_waits_of_a_step_and_the_card_s_own_speed():
    flags = ("--model", "demo", "--device", "cuda", "-p", "8", "-n", "1", "-r", "1", "--threads", "1")
    with simulated_cards(Card()):
        table = CliRunner().invoke(app, ["bench", *flags])
        found = CliRunner().invoke(app, ["bench", *flags, "--format", "json"])
    assert table.exit_code == found.exit_code == 0, table.output
    assert "launches, 6 waits for the card" in table.stdout
    prefill, decode, sampled = json.loads(found.stdout)["results"]
    assert decode["synchronisations_per_step"] == 5  # one a layer
    assert sampled["synchronisations_per_step"] == 6 and sampled["launches_per_step"] > decode["launches_per_step"]
    assert 5 * 60 < decode["launches_per_step"] < 5 * 100 and prefill["launches_per_step"] > 0
    assert decode["expected_tokens_per_second"] * decode["share_of_bandwidth"] == pytest.approx(
        decode["tokens_per_second"]
    )


def test_what_is_copied_to_measure_a_card_is_a_quarter_of_what_is_free_at_most():
    from zaya_cli.models.folder import BUNDLED
    from zaya_core.load import load_model
    from zaya_core.measure.bench import Bench

    with simulated_cards(Card(total=64 << 20, used=24 << 20)):
        block = Bench(load_model(BUNDLED / "demo", "cuda"))._memory
        assert block.device.type == "cuda"
        assert 6 << 20 < block.nbytes <= 10 << 20
        assert bandwidth.copy_bandwidth(block, 2) > 1e6
