"""A card to test on: the simulated one, and the real one where there is one."""

from __future__ import annotations

import pytest
import torch

from tests.gpu.simulated_card import Card, simulated_cards

HAS_CARD = torch.cuda.is_available()


@pytest.fixture(params=["simulated", "real"])
def card(request):
    """State of a simulated card; None for a real one."""
    if request.param == "real":
        if not HAS_CARD:
            pytest.skip("there is no card that this PyTorch can compute on")
        yield None
        return
    if "nf4" in request.node.name:  # it chooses its kernels when it is imported, by what torch says then
        pytest.importorskip("bitsandbytes")
    with simulated_cards(Card()) as (one,):
        yield one
