"""A model that is whole passes in every format; one changed tensor is found."""

from __future__ import annotations

import pytest

from demo.evaluate import BUNDLED
from quant.kernels.native import supported_instruction_sets
from tests.core.kernel_choice import chosen_kernels
from tests.core.measure.damaged import DAMAGES, LAYER, damaged, findings, problems
from tests.core.quantized_models import quantized_folder, source_folder
from zaya_core.checkpoint.checkpoint import open_checkpoint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.load import load_model
from zaya_core.measure.checkup.distributions import compare_logits
from zaya_core.measure.checkup.golden import NOBODY, known
from zaya_core.measure.checkup.likeliest import compare_likeliest
from zaya_core.measure.checkup.tensors import check_tensors
from zaya_core.quantize.job import QuantizeSettings

DEMO = {"numbers", "tokenizer", "template", "token ids", "known ids", "greedy", "logits", "text", "routers"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    made = {kind: quantized_folder(BUNDLED, root / kind, QuantizeSettings(kind, kind)) for kind in ("int8", "int4")}
    return {"bf16": BUNDLED, **made}


@pytest.mark.parametrize(("kind", "kv"), [("bf16", "auto"), ("bf16", "int8"), ("int8", "auto"), ("int4", "int8")])
def test_the_bundled_model_passes_in_every_format(folders, kind, kv):
    found = findings(folders[kind], kv)
    assert [one for one in found if one.state != "ok"] == []
    assert {one.topic for one in found} == DEMO | {"steps", "reference"}


KERNELS = [*(f"native:{name}" for name in supported_instruction_sets()), "torch", "reference"]


@pytest.mark.parametrize(
    ("kind", "kernels"), [*(("bf16", one) for one in KERNELS), ("int8", "torch"), ("int4", "torch")]
)
def test_the_logits_of_the_bundled_model_are_the_known_ones_whoever_computes(folders, kind, kernels):
    demo = known(ModelFolder(BUNDLED).config, [])
    with chosen_kernels(kernels):
        model = load_model(folders[kind], "cpu")
        assert [one.state for one in (*compare_likeliest(model, demo), *compare_logits(model, demo))] == ["ok"] * 3


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_changed_tensor_of_the_bundled_model_is_a_problem(tmp_path, damage):
    folder = ModelFolder(damaged(tmp_path / "model", DAMAGES[damage]))
    demo = known(folder.config, [])
    (logits,) = compare_logits(load_model(folder, "cpu"), demo)
    assert logits.state == "problem"
    stored = problems([*check_tensors(open_checkpoint(folder), demo)])
    assert bool(stored) == (damage in ("o_proj zeroed", "a NaN in an expert"))


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_damage_is_found_beneath_the_rounding_of_a_quantized_folder(tmp_path, kind):
    source = damaged(tmp_path / "source", DAMAGES["o_proj negated"])
    made = quantized_folder(source, tmp_path / "made", QuantizeSettings(kind, kind))
    assert problems(findings(made)) >= {"known ids", "greedy", "logits", "text"}


@pytest.fixture(scope="module")
def unknown(tmp_path_factory):
    pytest.importorskip("transformers")
    return source_folder(tmp_path_factory.mktemp("unknown") / "model")


def test_random_weights_are_no_better_than_chance_and_say_so(unknown):
    found = {one.topic: one for one in findings(unknown)}
    assert problems([*found.values()]) == {"text"}
    assert found["text"].text.endswith(
        "no better than chance (704): random or damaged weights, or another model's tokenizer"
    )
    assert not {"known ids", "greedy", "logits", "token ids"} & found.keys()


@pytest.mark.parametrize(
    ("value", "state", "words"),
    [
        (
            0.0,
            "note",
            "nothing but one number in model.layers.2.self_attn.o_proj.weight (all 0): no training leaves that",
        ),
        (float("inf"), "problem", "values that are not finite in model.layers.2.self_attn.o_proj.weight"),
    ],
)
def test_numbers_that_no_training_leaves_are_found_in_any_model(tmp_path, unknown, value, state, words):
    change = lambda tensors: tensors[f"{LAYER}self_attn.o_proj.weight"].fill_(value)  # noqa: E731
    found = next(one for one in findings(damaged(tmp_path / "model", change, unknown)) if one.topic == "numbers")
    assert found.state == state
    assert found.text.startswith(words)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_a_lost_expert_of_a_quantized_folder_is_named(tmp_path, unknown, kind):
    made = quantized_folder(unknown, tmp_path / "made", QuantizeSettings(kind, None))

    def lose(tensors):
        name = f"{LAYER}mlp.experts.down_proj.codes"
        tensors[name][1] = 0 if kind != "int4" else 0x88

    found = next(one for one in findings(damaged(tmp_path / "lost", lose, made)) if one.topic == "numbers")
    assert found.state == "note"
    assert "model.layers.2.mlp.experts.down_proj[1].codes" in found.text


def test_many_broken_tensors_are_counted_and_not_all_named(tmp_path, unknown):
    def break_all(tensors):
        for tensor in tensors.values():
            if tensor.dim() > 1:
                tensor.view(-1)[-1] = float("nan")

    (found,) = check_tensors(open_checkpoint(damaged(tmp_path / "model", break_all, unknown)), NOBODY)
    assert found.state == "problem"
    assert " others: the files are damaged" in found.text
    assert len(found.text) < 400
