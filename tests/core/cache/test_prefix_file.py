"""Laws of saved prefixes: what was computed before is taken up in another process bit for bit, or not at all."""

from __future__ import annotations

import os

import pytest

from tests.core.engine.test_engine import PLAIN, ask, finished, run, tokens
from zaya_core.cache.prefix_file import load_prefixes, save_prefixes
from zaya_core.checkpoint.fingerprint import fingerprint
from zaya_core.engine.engine import Engine
from zaya_core.errors import CheckpointError
from zaya_core.load import load_model

PROMPT = [300 + n % 100 for n in range(300)]  # more than a block


@pytest.fixture
def saved(model, tokenizer, tmp_path):
    """A file with the prefixes at 100, 256 and 290 tokens of PROMPT."""
    engine = Engine(model, tokenizer)
    run(engine, ask(PROMPT, snapshot_at=(100, 256, 290), max_tokens=1), ask(PLAIN, snapshot_at=(9,), max_tokens=1))
    path = tmp_path / "prefixes.safetensors"
    save_prefixes(path, engine.prefixes.beginnings_of(PROMPT), "these weights")
    return path


def test_another_process_goes_on_from_saved_prefixes_as_if_it_had_computed_them(saved, folder, tokenizer):
    other = load_model(folder, device="cpu")
    engine = Engine(other, tokenizer)
    for prefix in load_prefixes(saved, engine.states, "these weights"):
        engine.prefixes.add(prefix)
    for length, known in ((300, 290), (280, 256), (255, 100)):
        prompt = [*PROMPT[:length], 400, 401]
        (events,) = run(engine, ask(prompt))
        assert finished(events).stats.prefilled_tokens == len(prompt) - known
        assert tokens(events) == tokens(run(Engine(other, tokenizer), ask(prompt))[0])
    del prefix
    engine.prefixes.clear()
    assert engine.states.pool.blocks_in_use == 0


def test_prefixes_of_other_weights_are_refused(saved, model):
    with pytest.raises(CheckpointError, match="other weights"):
        load_prefixes(saved, model.states, "those weights")


@pytest.mark.parametrize("keep", [0, 7, 100, 5000, -1])
def test_a_damaged_file_is_refused_and_holds_no_memory(saved, model, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[:keep])
    before = model.states.pool.blocks_in_use
    with pytest.raises(CheckpointError):
        load_prefixes(saved, model.states, "these weights")
    assert model.states.pool.blocks_in_use == before


def test_a_folder_that_cannot_be_written_to_is_an_os_error(saved, model, tokenizer, tmp_path):
    engine = Engine(model, tokenizer)
    run(engine, ask(PLAIN, snapshot_at=(9,), max_tokens=1))
    with pytest.raises(OSError):
        save_prefixes(tmp_path / "missing" / "x", engine.prefixes.beginnings_of(PLAIN), "these weights")


def test_the_fingerprint_changes_with_the_weights_and_not_with_time(folder, tmp_path):
    first = fingerprint(folder)
    os.utime(folder / "config.json", (1, 1))
    assert fingerprint(folder) == first
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    assert fingerprint(tmp_path) != first
