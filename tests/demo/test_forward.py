"""The training forward computes what transformers' class computes, gradients included."""

from __future__ import annotations

import random

import pytest
import torch
from tokenizers import Tokenizer
from transformers import ZayaForCausalLM

from demo.batches import collate, encode
from demo.evaluate import BUNDLED
from demo.examples import draw_example
from demo.export import check_skip_class
from demo.forward import TrainingForward
from demo.model import build_model, demo_config
from demo.problems import training_problems
from demo.train import Routing, balance, balance_loss


@pytest.fixture
def model() -> ZayaForCausalLM:
    model = build_model(seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # scales and biases away from their first values, or their order would not matter
        for weight in model.parameters():
            if weight.dim() == 1:
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


def test_hidden_states_and_gradients_are_those_of_transformers(model: ZayaForCausalLM) -> None:
    ids = torch.randint(0, 768, (3, 29), generator=torch.Generator().manual_seed(2))
    ours = TrainingForward(model, torch.float32, is_compiled=False)(ids)[0]
    ours.square().mean().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    theirs = model.model(input_ids=ids).last_hidden_state
    theirs.square().mean().backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(gradients[name], p.grad, rtol=1e-3, atol=1e-6, msg=name)


def test_padding_behind_a_row_changes_nothing(model: ZayaForCausalLM) -> None:
    rng = random.Random(0)
    examples = [draw_example(rng, training_problems(rng), 0.3) for _ in range(2)]
    rows = encode(Tokenizer.from_file(str(BUNDLED / "tokenizer.json")), examples)
    batch = collate(rows, 900)
    forward = TrainingForward(model, torch.float32, is_compiled=False)
    with torch.no_grad():
        padded = forward(batch.ids)[0]
        for i, (prompt, completion) in enumerate(rows):
            alone = forward(torch.tensor([prompt + completion]))[0][0]
            torch.testing.assert_close(padded[i, : len(alone)], alone, rtol=1e-4, atol=1e-5)


def test_balancing_favours_idle_experts_and_never_the_skip_class(model: ZayaForCausalLM) -> None:
    chosen = [torch.zeros(4, 8, dtype=torch.long) for _ in model.model.layers]  # everything goes to the first expert
    for _ in range(5):
        balance(model, chosen, torch.ones(4, 8, dtype=torch.bool), 0.01)
    for layer in model.model.layers:
        biases = layer.mlp.gate.balancing_biases
        assert biases[0] < biases[1:-1].min()
    check_skip_class(model)


def test_quantizable_matrices_have_inputs_of_multiples_of_64() -> None:
    config = demo_config()
    widths = (config.hidden_size, config.num_attention_heads * config.head_dim, config.moe_intermediate_size)
    assert all(width % 64 == 0 for width in widths)


def test_balance_loss_is_least_for_even_use_and_blind_to_the_skip_class() -> None:
    is_text = torch.ones(1, 16, dtype=torch.bool)
    even, crowded = torch.arange(16)[None], torch.zeros(1, 16, dtype=torch.long)
    logits = torch.zeros(1, 16, 17)
    skipping = logits.clone()
    skipping[..., -1] = 9.0
    assert balance_loss(Routing([even], [logits]), is_text) == pytest.approx(1.0)
    towards_first = logits.clone()
    towards_first[..., 0] = 5.0
    assert balance_loss(Routing([crowded], [towards_first]), is_text) > 5.0
    assert balance_loss(Routing([even], [skipping]), is_text) == pytest.approx(1.0)
