"""Every variant of the model on a card has the CPU's logits: padded prompts, steps, forks, rows in several parts."""

from __future__ import annotations

import pytest
import torch

from tests.core.kernel_choice import chosen_kernels
from tests.core.quantized_models import source_folder
from zaya_core.cache import step
from zaya_core.load import load_model
from zaya_core.model import attention

VARIANTS = [
    ("original", "base"),
    ("native", "attention_bias"),
    ("native", "tied_head_with_bias"),
    ("original", "untied_head_with_bias"),
    ("native", "one_sliding_layer"),
]


def logits_of(model):
    """Of the real tokens of some passes, on the host."""
    draw = torch.Generator().manual_seed(1)
    cache, found = model.new_cache(3), []
    for lengths in ([20, 7, 1], [1, 0, 1], [2, 6, 0], [1, 1, 1]):
        ids = torch.randint(3, 200, (3, max(lengths)), generator=draw)
        logits = model(ids, cache, lengths).cpu()
        found += [row[:length] for row, length in zip(logits, lengths, strict=True)]
    forked = cache.select([2, 0, 0])
    found.append(model(torch.randint(3, 200, (3, 4), generator=draw), forked).cpu().flatten(0, 1))
    return torch.cat(found)


@pytest.mark.parametrize("at_once", ["all at once", "in parts"])
@pytest.mark.parametrize(("layout", "variant"), VARIANTS)
def test_logits_are_those_of_the_cpu(card, tmp_path, monkeypatch, layout, variant, at_once):
    folder = source_folder(tmp_path / "model", layout, variant, head_dim=32)
    with chosen_kernels("torch"):
        expected = logits_of(load_model(folder, "cpu", "float32"))
    if at_once == "in parts":
        monkeypatch.setattr(step, "GATHERED", 8)
        monkeypatch.setattr(attention, "SCORES", 64)
    found = logits_of(load_model(folder, "cuda", "float32"))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
