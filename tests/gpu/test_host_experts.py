"""Experts that stay in host memory: the same answers, one wait for each such layer, and nothing of them on the card."""

from __future__ import annotations

import pytest
import torch

from tests.core.cache.test_parking import run
from tests.core.kernel_choice import chosen_kernels
from tests.core.quantized_models import quantized_folder, source_folder
from tests.gpu.simulated_card import Card, simulated_cards
from tests.gpu.test_torch_path import FLOWS, SIZES
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.engine.engine import Engine
from zaya_core.load import load_model
from zaya_core.machine.memory_fit import expert_bytes
from zaya_core.measure.card_traffic import CardTraffic
from zaya_core.quantize.job import QuantizeSettings
from zaya_core.text.tokenizer import load_tokenizer


@pytest.fixture(scope="module", params=["float", "int4", "int8", "original"])
def folder(request, tmp_path_factory):
    """Of each way of storing experts; in the original layout a class of the router skips them."""
    root = tmp_path_factory.mktemp("host")
    layout = "original" if request.param == "original" else "native"
    source = source_folder(root / "source", layout, **SIZES)
    if request.param in ("float", "original"):
        return source
    return quantized_folder(source, root / "packed", QuantizeSettings(request.param, "int8"))


def engine_on(device, folder, cpu_experts=0, dtype="float32"):
    return Engine(load_model(folder, device, dtype, cpu_experts=cpu_experts), load_tokenizer(folder))


def test_answers_are_those_of_a_card_that_has_all(card, folder):
    wanted, _ = FLOWS["four rows"]
    with chosen_kernels("torch"):
        expected, *found = (run(engine_on("cuda", folder, count), wanted)[1] for count in (0, 1, 2))
    assert found == [expected, expected]


def test_the_host_s_own_products_are_near(card, folder):
    ids = torch.randint(3, 200, (2, 9))
    whole, parted = (load_model(folder, "cuda", "float32", cpu_experts=count)(ids).cpu() for count in (0, 2))
    assert float((whole - parted).abs().max() / whole.std()) < 0.05  # native products round their inputs to int8


@pytest.mark.parametrize("rows", [1, 3])
def test_each_such_layer_waits_once_and_copies_there_and_back(folder, rows):
    with simulated_cards(Card()):
        model = load_model(folder, "cuda", "bfloat16", cpu_experts=2)
        cache = model.new_cache(rows)
        model(torch.randint(3, 200, (rows, 5)), cache)
        with CardTraffic() as traffic:
            model(torch.full((rows, 1), 9), cache)
    assert traffic.synchronisations.total() == 2
    ways = [sum(count for (_, to), count in traffic.copies.items() if to == way) for way in ("to host", "to card")]
    assert ways == [2, 2 + 2]  # the pass has two of its own


def test_what_stays_in_host_memory_is_not_on_the_card(folder):
    held = []
    for count in (0, 1, 2):
        with simulated_cards(Card()) as (card,):
            kept = load_model(folder, "cuda", "bfloat16", cpu_experts=count)
            held.append(card.held)
            del kept
    assert held[0] > held[1] > held[2]
    assert held[0] - held[1] == pytest.approx(held[1] - held[2])
    config = ModelFolder(folder).config
    assert held[0] - held[1] == pytest.approx(
        expert_bytes(config, 2), rel=0.1
    )  # scales of narrow matrices are not counted


def test_the_placement_says_how_many_layers_experts_the_cpu_has(folder):
    with simulated_cards(Card()):
        assert "the experts of 1 of 2 layers on the CPU" in load_model(folder, "cuda", cpu_experts=1).placement_reason
