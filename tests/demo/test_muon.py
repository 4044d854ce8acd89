"""Muon's step: orthogonal updates, for single matrices and for stacks."""

from __future__ import annotations

import pytest
import torch

from demo.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4), (3, 8, 5)])
def test_singular_values_come_near_one(shape: tuple[int, ...]) -> None:
    update = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(update))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_a_stack_is_treated_matrix_by_matrix() -> None:
    stack = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1))
    one_by_one = torch.stack([orthogonalize(matrix) for matrix in stack])
    torch.testing.assert_close(orthogonalize(stack), one_by_one)


def test_steps_lower_a_loss() -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(6, 6, generator=generator).requires_grad_()
    target = torch.randn(6, 6, generator=generator)
    optimizer = Muon([weight], lr=0.1)
    losses = []
    for _ in range(150):
        loss = (weight - target).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
