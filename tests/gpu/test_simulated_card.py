"""The simulated card refuses what a card refuses, and what is counted on it is what the program asks for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from quant import compressed
from tests.gpu.simulated_card import Card, MixedDevices, SimulatedTensor, simulated_cards
from zaya_core.measure.card_traffic import CardTraffic

MIB = 1 << 20


@pytest.fixture
def cards():
    with simulated_cards(Card(total=8 * MIB), Card("second", total=4 * MIB, used=MIB, is_integrated=True)) as both:
        yield both


def test_tensors_of_a_card_compute_what_those_of_the_host_do(cards):
    x, w = torch.randn(3, 64), torch.randn(32, 64)
    on_card = F.silu(F.linear(x.to("cuda"), w.to("cuda:0"))).softmax(-1)
    assert isinstance(on_card, SimulatedTensor) and on_card.device == torch.device("cuda:0") and on_card.is_cuda
    torch.testing.assert_close(on_card.cpu(), F.silu(F.linear(x, w)).softmax(-1))
    assert not isinstance(on_card.cpu(), SimulatedTensor)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda a, b: a + b,
        lambda a, b: torch.cat([a, b]),
        lambda a, b: F.embedding(torch.tensor([0]), a),
        lambda a, b: b[torch.tensor([0], device="cuda")],
        lambda a, b: a.index_copy_(0, torch.tensor([0]), a[:1]),
        lambda a, b: a + b.to("cuda:1"),
        lambda a, b: torch.where(a > 0, b, a),
    ],
)
def test_two_devices_in_one_operation_are_refused(cards, mixed):
    with pytest.raises(MixedDevices):
        mixed(torch.ones(2, 2, device="cuda"), torch.ones(2, 2))


def test_what_a_card_takes_of_the_host_is_taken(cards):
    a = torch.ones(4, 2, device="cuda")
    assert (a * torch.tensor(2.0)).sum().item() == 16
    assert a[torch.tensor([1, 2])].shape == (2, 2) and a[[0, 3]].shape == (2, 2)


def test_memory_is_given_back_and_more_than_there_is_is_refused(cards):
    first, second = cards
    held = [torch.zeros(MIB, dtype=torch.uint8, device="cuda") for _ in range(6)]
    views = [one.view(1024, 1024)[:, :5] for one in held]
    assert torch.cuda.mem_get_info(0) == (2 * MIB, 8 * MIB) and torch.cuda.mem_get_info(1) == (3 * MIB, 4 * MIB)
    with pytest.raises(torch.OutOfMemoryError):
        torch.zeros(3 * MIB, dtype=torch.uint8, device="cuda")
    del held
    assert first.free == 2 * MIB
    del views
    assert first.free == 8 * MIB and first.peak == 6 * MIB and second.peak == 0


def test_launches_copies_and_synchronisations_are_counted_by_the_line_that_asks(cards):
    from quant.int8 import nearest_int8

    x = torch.randn(4, 64, device="cuda")
    with CardTraffic() as traffic:
        codes, _ = nearest_int8(x)
        copied = codes.cpu()
        copied.to("cuda")
        x[0, 0].item()
        x.view(8, 32)[:, :3].t()
        (x > 0).nonzero()
        torch.ones(3) + 1
    places = {place for place, _ in traffic.launches if place}
    assert all(place.startswith("quant/int8.py:") for place in places) and places
    assert traffic.launches["", "nonzero"] == traffic.launches["", "gt"] == 1 and traffic.launches["", "add"] == 0
    assert traffic.synchronisations["", "copy"] == 1
    assert traffic.synchronisations["", "_local_scalar_dense"] == traffic.synchronisations["", "nonzero"] == 1
    assert traffic.copies == {("", "to host"): 1, ("", "to card"): 1}


@pytest.mark.parametrize("non_blocking", [False, True])
def test_a_copy_that_does_not_wait_is_no_synchronisation(cards, non_blocking):
    x, host = torch.ones(4, device="cuda"), torch.empty(4)
    with CardTraffic() as traffic:
        host.copy_(x, non_blocking=non_blocking)
        x.to("cpu", non_blocking=non_blocking)
    assert traffic.synchronisations.total() == (0 if non_blocking else 2)
    assert traffic.copies == {("", "to host"): 2}


def test_nothing_of_a_simulated_card_is_kept_for_a_real_one():
    with simulated_cards(Card()):
        assert isinstance(compressed._levels(torch.device("cuda", 0)), SimulatedTensor)
    assert compressed._levels.cache_info().currsize == 0


def test_without_a_card_nothing_is_counted():
    with CardTraffic() as traffic:
        torch.ones(3).sum().item()
    assert not (traffic.launches or traffic.synchronisations or traffic.copies)
