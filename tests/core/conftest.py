"""Tiny models that several files of tests share, made once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.tiny_models import reference_model, save_native
from tests.core.tokenizers_made_here import gemma_text, write_folder
from zaya_core.load import load_model
from zaya_core.text.tokenizer import load_tokenizer

VOCABULARY = 704  # of the tokenizer below, rounded up
# One layer of each kind: what is tested with it is not the model. By this seed its texts go on for long.
SHAPE: dict[str, Any] = {
    "max_position_embeddings": 600,
    "num_hidden_layers": 2,
    "layer_types": ["hybrid", "hybrid_sliding"],
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A whole model folder: float32 weights in the native layout and a tokenizer of Gemma's shape."""
    pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("tiny")
    reference = reference_model("one_sliding_layer", seed=4, vocab_size=VOCABULARY, **SHAPE)
    save_native(reference, path)
    return write_folder(path, gemma_text())


@pytest.fixture(scope="session")
def model(folder):
    return load_model(folder, device="cpu")


@pytest.fixture(scope="session")
def tokenizer(folder):
    return load_tokenizer(folder)
