"""The perplexity of a text, where its tokens go, and the float32 reference that all is held against."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from demo.evaluate import BUNDLED
from tests.core.kernel_choice import chosen_kernels
from tests.core.quantized_models import quantized_folder, source_folder
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.load import load_model
from zaya_core.measure.checkup.agreement import compare_with_reference, compare_with_steps
from zaya_core.measure.checkup.exact import ExactParts, exact_model
from zaya_core.measure.checkup.golden import NOBODY, Known, known
from zaya_core.measure.checkup.perplexity import TextRead, judge_routers, judge_text, read_text
from zaya_core.measure.checkup.text import PROSE, Reading, readings
from zaya_core.quantize.job import QuantizeSettings

DEMO = known(ModelFolder(BUNDLED).config, [])


@pytest.mark.parametrize("first", [1, 3, 64, 65, 70, 129, 140])
def test_the_perplexity_is_that_of_one_pass_from_the_first_token_that_counts(model, first):
    ids = torch.randint(0, 700, (140,), generator=torch.Generator().manual_seed(0))
    read = read_text(model, [Reading(ids.tolist(), first)])
    logits = model(ids[None])[0]
    scored = F.cross_entropy(logits[first - 1 : -1], ids[first:], reduction="sum")
    assert read.scored == 140 - first
    assert math.isclose(read.loss, float(scored) / max(read.scored, 1), rel_tol=1e-3, abs_tol=1e-9)
    assert read.counts.sum(1).tolist() == [140] * model.config.num_hidden_layers
    assert read.is_finite


def test_plain_prose_is_read_by_a_model_without_texts_of_its_own(tokenizer):
    kind, (text,) = readings(tokenizer, None)
    assert kind == "plain English"
    assert tokenizer.decode(text.ids) == PROSE
    assert text.ids[: text.first] == [tokenizer.bos_id]


def counts(*rows):
    return torch.tensor(rows)


@pytest.mark.parametrize(
    ("perplexity", "what", "state", "words"),
    [
        (22.0, "anybody", "ok", "perplexity 22 over 300 tokens of prose (healthy: up to 60)"),
        (400.0, "anybody", "note", "perplexity 400 over 300 tokens of prose; one that reads it has 60 or less"),
        (140_000.0, "anybody", "problem", "140,000 over 300 tokens of prose, no better than chance (262,272)"),
        (math.inf, "anybody", "problem", "no better than chance"),
        (1.05, "demo", "note", "perplexity 1.05 over 300 tokens of prose; 1.01 or less is healthy"),
        (1.2, "demo", "problem", "perplexity 1.2 over 300 tokens of prose; 1.01 or less is healthy"),
    ],
)  # fmt: skip
def test_a_perplexity_is_judged_by_what_is_known(perplexity, what, state, words):
    read = TextRead(math.log(perplexity), 300, counts([1, 0]), True)
    (found,) = judge_text(read, "prose", 262_272, DEMO if what == "demo" else NOBODY)
    assert found.state == state
    assert words in found.text


def test_logits_that_are_not_finite_have_no_perplexity():
    (found,) = judge_text(TextRead(math.nan, 300, counts([1, 0]), False), "prose", 1000, NOBODY)
    assert (found.state, found.text) == ("problem", "no perplexity: some logits of prose are not finite")


@pytest.mark.parametrize(
    ("rows", "is_known", "state", "words"),
    [
        ([[50, 50, 0], [40, 60, 0]], False, "ok", "2.0 of 2 experts a layer (least 2), largest share 60% (layer 1)"),
        ([[50, 50, 0], [100, 0, 0]], False, "problem", "a router that sends all to one expert is damaged"),
        ([[10, 90, 0], [50, 50, 0]], False, "note", "90% (layer 0), no skip, which is much for one expert"),
        ([[50, 40, 10], [50, 50, 0]], False, "ok", "5.0% skip"),
        ([[50, 40, 10], [50, 50, 0]], True, "note", "5.0% skip: none does in the bundled demo"),
        ([[0, 5, 0], [5, 0, 0]], False, "ok", "largest share 100% (layer 0)"),
    ],
)  # fmt: skip
def test_the_spread_over_the_experts_is_judged_where_a_text_is_long_enough(rows, is_known, state, words):
    found = judge_routers(TextRead(1.0, 90, counts(*rows), True), DEMO if is_known else NOBODY)
    assert found.state == state
    assert words in found.text


# --- the reference ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "kind"), [("native", None), ("original", None), ("native", "int4"), ("native", "int8")]
)
def test_the_reference_is_that_of_the_kernels(tmp_path, layout, kind):
    """The one that ZAYA_KERNELS=reference computes, whatever the weights are stored in."""
    pytest.importorskip("transformers")
    path = source_folder(tmp_path / "source", layout, "untied_head_with_bias")
    path = path if kind is None else quantized_folder(path, tmp_path / "made", QuantizeSettings(kind, kind))
    folder, ids = ModelFolder(path), torch.randint(0, 700, (1, 9), generator=torch.Generator().manual_seed(0))
    found = exact_model(folder.config, open_checkpoint(folder))(ids)
    with chosen_kernels("reference"):
        expected = load_model(path, "cpu")(ids)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_head_of_many_rows_is_multiplied_by_slices(monkeypatch, folder):
    opened, ids = ModelFolder(folder), torch.tensor([[1, 2, 3]])
    whole = exact_model(opened.config, open_checkpoint(opened))(ids)
    monkeypatch.setattr("zaya_core.measure.checkup.exact._MOST_ROWS", 100)
    torch.testing.assert_close(exact_model(opened.config, open_checkpoint(opened))(ids), whole)


def test_what_computes_wrongly_is_no_fault_of_the_files(model, folder):
    opened, ids = ModelFolder(folder), [1, 2, 3, 4, 5]
    whole, steps = compare_with_steps(model, ids)
    checkpoint = open_checkpoint(opened)
    assert steps.state == "ok"
    assert compare_with_reference(opened.config, checkpoint, ids, whole).state == "ok"
    wrong = compare_with_reference(opened.config, checkpoint, ids, whole.roll(1, dims=1))
    assert wrong.state == "problem"
    assert wrong.text.startswith("this and float32 from the files do not agree, a fault of zaya: please report it: KL ")
    whole = whole.clone()
    whole[2, 5] = math.nan
    broken = compare_with_reference(opened.config, checkpoint, ids, whole)
    assert (broken.state, broken.text) == (
        "problem", "this and float32 from the files cannot be compared: some logits are not finite"
    )  # fmt: skip


def test_a_router_that_chose_otherwise_at_one_position_is_no_fault(model, folder):
    opened, ids = ModelFolder(folder), [1, 2, 3, 4, 5]
    whole, _ = compare_with_steps(model, ids)
    whole = whole.clone()
    whole[1] = whole[1].roll(1)
    assert compare_with_reference(opened.config, open_checkpoint(opened), ids, whole).state == "ok"


def test_known_models_have_texts_that_are_theirs(tokenizer):
    assert Known(DEMO.golden, True) == DEMO
    assert readings(tokenizer, DEMO.golden)[0] == "sums like its training's"


def test_the_reference_copies_no_weights():
    opened = ModelFolder(BUNDLED)
    parts = ExactParts(opened.config, open_checkpoint(opened))
    assert parts.layout.dtype == torch.float32
    assert parts.matrix("model.embed_tokens").nbytes == 2 * 768 * 128
    assert parts.stack("model.layers.0.mlp.experts.down_proj").nbytes == 2 * 16 * 128 * 64
