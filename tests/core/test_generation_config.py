"""Sampling defaults of a model folder."""

from __future__ import annotations

import json

import pytest

from zaya_core.errors import CheckpointError
from zaya_core.generation_config import sampling_defaults
from zaya_core.sampling import SamplingParams


@pytest.mark.parametrize(
    ("stored", "changes"),
    [
        ({}, {}),
        ({"eos_token_id": 106}, {}),
        ({"temperature": 0.6, "top_k": 20, "top_p": 0.9}, {"temperature": 0.6, "top_k": 20, "top_p": 0.9}),
        ({"top_k": -1, "min_p": None}, {}),
        ({"do_sample": False, "temperature": 0.6}, {"temperature": 0.0}),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
    ],
)
def test_the_folders_values_replace_the_built_in_ones(tmp_path, stored, changes):
    (tmp_path / "generation_config.json").write_text(json.dumps(stored))
    assert sampling_defaults(tmp_path) == SamplingParams(**changes)


@pytest.mark.parametrize(
    "text", ['{"temperature": "hot"}', '{"top_k": Infinity}', '{"top_p": 7}', '{"min_p": true}', "[1]", "{"]
)
def test_an_impossible_value_is_a_damaged_folder(tmp_path, text):
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        sampling_defaults(tmp_path)
