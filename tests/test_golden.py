"""The real weights give the known numbers. Skipped unless ZAYA_TEST_MODEL names a folder of Zyphra/ZAYA1-8B.

The ids are those of the reference implementation's own slow test (tests/models/zaya/test_modeling_zaya.py).
"""

from __future__ import annotations

import os

import pytest
import torch

from tests.core.model_parts import layers_of, parts_of

FOLDER = os.environ.get("ZAYA_TEST_MODEL")
pytestmark = pytest.mark.skipif(not FOLDER, reason="ZAYA_TEST_MODEL names no folder")

TEXT = "Hello! How can I assist you today?"
IDS = [2, 9259, 236888, 2088, 740, 564, 6361, 611, 3124, 236881, 106]
LIKELIEST = [105, 9731, 107, 740, 564, 1601, 611, 236881, 236881, 107, 107]
GREEDY = [107, 262146, 108, 9259, 236888, 2088, 740, 564, 6361, 611, 3124, 236881, 108, 236769, 10282, 236787]


@pytest.fixture(scope="module")
def model():
    from zaya_core.load import load_model

    return load_model(str(FOLDER))


def test_plain_text_encodes_to_the_known_ids():
    from zaya_core.text.tokenizer import load_tokenizer

    assert load_tokenizer(str(FOLDER)).encode(TEXT) == IDS[1:-1]


def test_the_likeliest_token_at_each_position(model):
    assert model(torch.tensor([IDS]))[0].argmax(-1).tolist() == LIKELIEST


def test_sixteen_greedy_tokens(model):
    cache = model.new_cache()
    tokens = [int(model(torch.tensor([IDS]), cache, last_only=True)[0, -1].argmax())]
    while len(tokens) < len(GREEDY):
        tokens.append(int(model(torch.tensor([tokens[-1:]]), cache)[0, -1].argmax()))
    assert tokens == GREEDY


def test_a_cached_step_equals_the_whole_pass(model):
    cache = model.new_cache()
    model(torch.tensor([IDS[:-1]]), cache)
    step, whole = model(torch.tensor([IDS[-1:]]), cache)[0, -1], model(torch.tensor([IDS]))[0, -1]
    assert torch.equal(step.argmax(), whole.argmax())
    assert (step - whole).abs().max() < 0.5


def test_the_skip_class_can_never_win():
    assert not any(layer.router.can_skip for layer in layers_of(parts_of(FOLDER)))
