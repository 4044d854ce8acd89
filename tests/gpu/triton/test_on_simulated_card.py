"""The host's side of kernels on a simulated card: an Engine's rows, graphs, devices, how often the card is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

pytest.importorskip("triton")
from quant.kernels.triton.launch import IS_INTERPRETED
from quant.kernels.triton.program import Program
from tests.core.cache.test_parking import run
from tests.core.kernel_choice import chosen_kernels
from tests.core.quantized_models import quantized_folder, source_folder
from tests.gpu.simulated_card import Card, simulated_cards
from tests.gpu.simulated_kernels import simulated_kernels
from tests.gpu.test_torch_path import requests
from zaya_core.engine.engine import Engine, Request
from zaya_core.engine.events import PromptScored, TokenEvent
from zaya_core.load import load_model
from zaya_core.measure.card_traffic import CardTraffic
from zaya_core.quantize.job import QuantizeSettings
from zaya_core.sampling.params import SamplingParams
from zaya_core.text.tokenizer import load_tokenizer

pytestmark = pytest.mark.skipif(not IS_INTERPRETED, reason="the card is simulated")
LAYERS = 1
SIZES: dict[str, Any] = {"max_position_embeddings": 600, "num_hidden_layers": LAYERS, "vocab_size": 176}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("card")
    return quantized_folder(source_folder(root / "source", **SIZES), root / "packed", QuantizeSettings("int4", "int8"))


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


@pytest.fixture
def kernels():
    with simulated_cards(Card()), chosen_kernels("triton"), simulated_kernels() as counted:
        yield counted


def engine_on_card(folder, tokenizer, graphs="off", **settings):
    model = load_model(folder, "cuda", "float32", graphs=graphs)
    assert model.steps.name == "triton", model.steps.reason
    return Engine(model, tokenizer, max_rows=4, max_blocks=16, **settings)


def test_an_engine_generates_by_kernels_what_it_does_on_a_cpu(kernels, folder, tokenizer):
    wanted = [replace(one, max_tokens=3) for one in requests(1, 9) + requests(2, 5)]
    with chosen_kernels("reference"):
        _, expected = run(Engine(load_model(folder, "cpu"), tokenizer), wanted)
    _, found = run(engine_on_card(folder, tokenizer, "on", chunk=4), wanted)
    assert found == expected
    assert kernels.replays


@pytest.mark.long
def test_prompts_are_scored_and_penalties_choose_on_a_card_as_on_a_cpu(kernels, folder, tokenizer):
    sampling = SamplingParams(temperature=0, presence_penalty=1.5, frequency_penalty=0.7, repetition_penalty=1.2)
    wanted = Request([*range(40, 49)], sampling, max_tokens=4, prompt_logprobs=2, logit_bias={44: 3.0, 45: -100})
    with chosen_kernels("reference"):
        expected = told(Engine(load_model(folder, "cpu"), tokenizer), wanted)
    found = told(engine_on_card(folder, tokenizer, chunk=4), wanted)
    assert [token.token_id for token in found] == [token.token_id for token in expected]
    assert len(found) == 8 + 4
    for one, same in zip(found, expected, strict=True):
        assert one.logprob == pytest.approx(same.logprob, abs=1e-4)
        assert [id_ for id_, _ in one.top_logprobs] == [id_ for id_, _ in same.top_logprobs]


def told(engine, request):
    """Scored and generated tokens."""
    events = [*engine.generate([request])]
    scored = [token for event in events if isinstance(event, PromptScored) for token in event.tokens]
    return scored + [event for event in events if isinstance(event, TokenEvent)]


def test_a_step_asks_a_card_ten_times_a_layer_and_waits_once(kernels, folder, tokenizer):
    engine = engine_on_card(folder, tokenizer)
    (request,) = requests(1, 5)
    engine.submit(request)
    while len(engine._running) == 0 or not engine._running.rows[0].tokens:
        engine.step()
    engine.step()  # makes the program
    kernels.launches.clear()
    with CardTraffic() as traffic:
        engine.step()
    assert traffic.synchronisations.total() == 1, traffic.synchronisations
    assert traffic.launches.total() - kernels.launches.total() <= 4, traffic.launches
    ends = {"embed_rows": 1, "rotary_angles": 1, "chunk_sums": 1, "begin_draw": 1}
    assert {name: kernels.launches[name] for name in ends} == ends
    assert kernels.launches.total() - sum(ends.values()) - 2 <= 10 * LAYERS, kernels.launches


def test_a_prompt_is_computed_without_a_wait(kernels, folder, tokenizer):
    model = engine_on_card(folder, tokenizer).model
    with CardTraffic() as traffic:
        model(torch.tensor([[*range(40, 65)]]), is_prompt=True)
    assert traffic.synchronisations.total() == 0, traffic.synchronisations


@pytest.mark.parametrize("left_out", [3, -2])
def test_a_graph_that_leaves_a_launch_out_is_not_used(kernels, folder, tokenizer, monkeypatch, left_out):
    wanted = [replace(one, max_tokens=3) for one in requests(1, 5)]
    _, expected = run(engine_on_card(folder, tokenizer), wanted)

    def spoiled(program):
        capture(program)
        program._graph.launches.pop(left_out)

    capture = Program.capture
    monkeypatch.setattr(Program, "capture", spoiled)
    _, found = run(engine_on_card(folder, tokenizer, "on"), wanted)
    assert found == expected and kernels.replays == 1
