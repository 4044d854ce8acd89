"""Sampling defaults of a model folder."""

from __future__ import annotations

import json

import pytest

from zaya_core.engine.generation_config import SamplingDefaults, read_sampling_defaults, sampling_defaults
from zaya_core.errors import CheckpointError
from zaya_core.sampling.params import SamplingParams


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
    ("text", "changes"),
    [
        ('{"top_p": 0.0}', {"top_p": 0.0}),
        ('{"top_p": 0, "top_k": 50.0}', {"top_p": 0.0, "top_k": 50}),
        ('{"temperature": 0, "do_sample": true}', {"temperature": 0.0}),
        ('{"temperature": 0, "do_sample": false, "top_k": null}', {"temperature": 0.0}),
        ('{"temperature": null, "top_p": null, "min_p": null, "repetition_penalty": null}', {}),
        ('{"top_k": -1.0, "eos_token_id": [1, 106], "seed": "x", "num_beams": 4}', {}),
        ('{"top_p": 1, "min_p": 0, "repetition_penalty": 1}', {"top_p": 1.0, "min_p": 0.0}),
    ],
)
def test_odd_values_that_mean_something_are_understood(tmp_path, text, changes):
    (tmp_path / "generation_config.json").write_text(text)
    assert read_sampling_defaults(tmp_path) == SamplingDefaults(SamplingParams(**changes))


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("temperature", '"hot"'),
        ("temperature", "-0.5"),
        ("temperature", "NaN"),
        ("temperature", "1e999"),
        ("top_k", "Infinity"),
        ("top_k", "50.5"),
        ("top_k", "-7"),
        ("top_k", "true"),
        ("top_k", "9" * 400),
        ("top_p", "7"),
        ("min_p", "true"),
        ("min_p", "[0.1]"),
        ("repetition_penalty", "0"),
        ("repetition_penalty", '"\\u001b[2J"'),
    ],
)
def test_a_value_without_a_meaning_is_left_out_and_named(tmp_path, key, written):
    """The folder stays usable, and its other values hold."""
    path = tmp_path / "generation_config.json"
    path.write_text(f'{{"{key}": {written}, "do_sample": false}}')
    defaults = read_sampling_defaults(tmp_path)
    assert defaults.params == SamplingParams(temperature=0.0)
    (note,) = defaults.notes
    assert note.startswith(f"{path}: {key} is ")
    assert note.isprintable()
    assert len(note) < 400


@pytest.mark.parametrize("text", ["[1]", "{"])
def test_a_file_that_is_no_object_is_damaged(tmp_path, text):
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"generation_config\.json"):
        read_sampling_defaults(tmp_path)
