"""Every implementation of the model's steps computes what the float32 reference spells out, step by step."""

from __future__ import annotations

import gc
import shutil
import weakref
from itertools import product
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from quant.kernels.native import supported_instruction_sets
from tests.core.kernel_choice import chosen_kernels
from tests.core.kernels.native_attention import near
from tests.core.kernels.variants import VARIANTS, write_variants
from tests.core.model_parts import parts_of
from tests.core.quantized_models import quantized_folder, source_folder
from zaya_core.cache.cache import Cache
from zaya_core.cache.step import CacheStep
from zaya_core.kernels.native import NativeSteps
from zaya_core.kernels.reference import ReferenceSteps
from zaya_core.kernels.resolve import resolve_steps
from zaya_core.load import ModelParts, assemble, load_model
from zaya_core.model.forward_pass import ForwardPass
from zaya_core.model.rope import RotaryEmbedding
from zaya_core.model.steps import Declined, Steps
from zaya_core.quantize.job import QuantizeSettings
from zaya_core.sampling.draw import RowDraw
from zaya_core.sampling.params import RandomKey, SamplingParams
from zaya_core.sampling.reference import ReferenceSampling

pytest.importorskip("transformers")
SETS = supported_instruction_sets()
IMPLEMENTATIONS = ["torch", *SETS]


def implemented(name: str, parts: ModelParts) -> Steps:
    if name == "torch":
        return ReferenceSteps(parts, ReferenceSampling(), name, "")
    return NativeSteps(parts, SETS[name], "")


LENGTHS = [7, 4]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("steps")
    found = write_variants(root)
    base = root / "base.source"
    found["bf16"] = base
    found["int4"] = quantized_folder(base, root / "int4", QuantizeSettings("int4", "int4"))
    return found


def in_float32(folder):
    """The reference, and what it computes of."""
    with chosen_kernels("reference"):
        parts = parts_of(folder)
        return parts, resolve_steps(parts)


def begun(parts, steps, columns, lengths):
    config = parts.config
    rotary = {kind: RotaryEmbedding(config.rope_parameters[kind], config.head_dim, torch.device("cpu"))
              for kind in set(config.layer_types)}  # fmt: skip
    step = CacheStep.begin(Cache.empty(steps.states(2), 2), columns, lengths)
    step.__enter__()
    return ForwardPass(config, rotary, step)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_each_step_is_what_the_reference_spells_out(folders, variant, name):
    """With the reference's inputs; one code of an input rounded the other way is 1/127 of its group's largest."""
    exact_parts, exact = in_float32(folders[variant])
    parts = parts_of(folders[variant], "float32")
    steps = implemented(name, parts)
    torch.manual_seed(0)
    ids = torch.randint(3, 700, (2, 7))
    assert torch.equal(steps.embed(ids), exact.embed(ids))
    residual, state = torch.randn(2, 7, parts.config.hidden_size) * 3, None
    passes = begun(exact_parts, exact, 7, LENGTHS), begun(parts, steps, 7, LENGTHS)
    for layer in range(parts.config.num_hidden_layers):
        expected, qkv = exact.project(layer, residual, passes[0]), steps.project(layer, residual, passes[1])
        for ours, theirs in zip(qkv, expected, strict=True):
            near(ours, theirs, 2e-2)
        for pass_ in passes:
            assert len(pass_.step._tails) == layer + 1
        near(passes[1].step._tails[-1], passes[0].step._tails[-1], 2e-2)
        near(passes[1].step._delayed[-1], passes[0].step._delayed[-1], 2e-2)
        attended, ours = exact.attend(layer, expected, passes[0]), steps.attend(layer, expected, passes[1])
        real = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
        near(ours[real], attended[real], 1e-5)
        kept = residual.clone(), None if state is None else state.clone()
        mixed = steps.mix(layer, attended, *kept)
        residual, state, choice = exact.mix(layer, attended, residual, state)
        same = mixed[2] == choice
        assert same.float().mean() > 0.9  # a choice on the edge may fall on the other side
        near(mixed[0].flatten(0, 1)[same], residual.flatten(0, 1)[same], 2e-2)
        near(mixed[1], state, 2e-2)
    near(steps.logits(residual), exact.logits(residual), 2e-2)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("stored", ["bf16", "base", "int4"])
def test_both_ends_are_what_the_reference_spells_out(folders, stored, name):
    """The embedding to the bit; logits of a row to the bit whatever is beside it."""
    parts, exact = parts_of(folders[stored]), in_float32(folders[stored])[1]
    try:
        steps = implemented(name, parts)
    except Declined as why:
        pytest.skip(str(why))
    ids = torch.randint(3, 700, (3, 5))
    assert torch.equal(steps.embed(ids), exact.embed(ids))
    residual = torch.randn(5, 1, parts.config.hidden_size) * 3
    logits = steps.logits(residual)
    near(logits, exact.logits(residual), 2e-2)
    if name != "torch":
        assert torch.equal(logits, torch.cat([steps.logits(row[None]) for row in residual]))


@pytest.mark.parametrize("name", [name for name in IMPLEMENTATIONS if name != "torch"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_whole_step_at_once_is_its_parts_one_after_the_other(folders, variant, name):
    parts = parts_of(folders[variant], "float32")
    model = assemble(parts, implemented(name, parts), "")
    cache = model.new_cache(3)
    model(torch.randint(3, 700, (3, 9)), cache, is_prompt=True)
    ids, start = torch.tensor([[5], [6], [7]]), cache.snapshot()
    at_once = model(ids, cache)
    cache.restore(start)
    near(at_once, model(ids, cache, is_prompt=True), 0.03)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_tokens_are_drawn_alike_and_each_row_by_itself(folders, name):
    parts = parts_of(folders["base"], "float32")
    steps = implemented(name, parts)
    torch.manual_seed(0)
    logits, allowed = torch.randn(8, 5000) * 3, torch.zeros(5000, dtype=torch.bool)
    allowed[[4, 90, 4000]] = True
    logits[6, 3] = torch.nan
    rows = [
        RowDraw(SamplingParams(temperature=0), RandomKey(0), 0),
        RowDraw(SamplingParams(top_k=1), RandomKey(1), 3),
        RowDraw(SamplingParams(temperature=0, repetition_penalty=1e2), RandomKey(1), 3, seen=logits[2].argmax()[None]),
        RowDraw(SamplingParams(), RandomKey(2), 5, forced=17, top_logprobs=4),
        RowDraw(SamplingParams(temperature=0), RandomKey(2), 5, bias={77: 100.0, 78: 50.0}),
        RowDraw(SamplingParams(), RandomKey(3), 5, allowed=allowed),
        RowDraw(SamplingParams(), RandomKey(3), 5),
        RowDraw(SamplingParams(temperature=0), RandomKey(3), 5, bias={4: 50.0, 5: 500.0}, allowed=allowed),
    ]
    drawn: list[Any] = steps.draw(logits, rows)
    exact = torch.log_softmax(logits.double(), dim=1)
    assert "not numbers" in str(drawn.pop(6))
    ids = [one.token_id for one in drawn]
    assert ids[:2] == logits[:2].argmax(1).tolist()
    assert ids[2] == logits[2].topk(2).indices[1]
    assert (ids[3], ids[4], ids[6]) == (17, 77, 4)
    assert ids[5] in (4, 90, 4000)
    for row, one in zip((0, 1, 2, 3, 4, 5, 7), drawn, strict=True):
        assert one.logprob == pytest.approx(float(exact[row, one.token_id]), abs=1e-5)
    assert [id_ for id_, _ in drawn[3].top_logprobs] == exact[3].topk(4).indices.tolist()
    alone = [steps.draw(logits[row : row + 1], [rows[row]])[0] for row in (0, 1, 2, 3, 4, 5, 7)]
    assert drawn == alone


def test_who_declines_is_named_with_the_reason(folders, tmp_path):
    assert load_model(folders["bf16"], "cpu", "float32").steps.name == "torch"
    if SETS:
        name = next(iter(SETS))
        source = source_folder(tmp_path / "source", "native", "base", router_hidden_size=8)
        narrow = quantized_folder(source, tmp_path / "narrow", QuantizeSettings("int4", "int8"))
        for folder, dtype, why in ((folders["bf16"], "float32", "stored as float32"), (narrow, "auto", "multiples of")):
            steps = load_model(folder, "cpu", dtype).steps
            assert steps.name == "torch"
            assert steps.reason.startswith(f"native {name}: ") and why in steps.reason
        assert load_model(folders["base"], "cpu").steps.name == f"native {name}"


def test_zaya_kernels_reference_is_float32_whatever_is_stored_or_asked_for(folders):
    with chosen_kernels("reference"):
        for stored, dtype in product(("bf16", "base", "int4"), ("auto", "bfloat16", "float32")):
            model = load_model(folders[stored], "cpu", dtype)
            assert (model.steps.name, model.dtype) == ("reference", torch.float32)
            assert "ZAYA_KERNELS=reference" in model.steps.reason
        exact = model(ids := torch.randint(3, 700, (1, 20)))
    near(load_model(folders["int4"], "cpu", "float32")(ids), exact, 0.05)


def test_a_mask_that_allows_nothing_is_refused(folders):
    steps = implemented("torch", parts_of(folders["base"], "float32"))
    row = RowDraw(SamplingParams(), RandomKey(3), 5, allowed=torch.zeros(50, dtype=torch.bool))
    (error,) = steps.draw(torch.randn(1, 50), [row])
    assert isinstance(error, ValueError) and "must allow a token" in str(error)


def test_the_reference_takes_biases_of_another_dtype_than_the_weights(folders, tmp_path):
    folder = shutil.copytree(folders["base"].with_name("attention_bias.source"), tmp_path / "mixed")
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    assert any(name.endswith("_proj.bias") for name in tensors)
    save_file({name: t.bfloat16() if name.endswith("_proj.bias") else t for name, t in tensors.items()}, path)
    ids = torch.randint(3, 700, (1, 20))
    with chosen_kernels("reference"):
        exact = load_model(folder, "cpu")(ids)
    near(load_model(folder, "cpu", "float32")(ids), exact, 1e-4)


@pytest.mark.skipif(not SETS, reason="zaya was installed without a C++ compiler")
def test_no_float32_copy_stays_beside_what_the_library_reads(folders, monkeypatch):
    """Of convolutions and routers the library has panels of its own."""
    parts, made = parts_of(folders["base"]), list[weakref.ref[torch.Tensor]]()
    read = parts.layer

    def layer(number):
        one = read(number)
        copied = one.qkv_proj.convolutions.grouped_weight, one.router.fc1[0], one.router.down_proj[0]
        made.extend(map(weakref.ref, copied))
        return one

    monkeypatch.setattr(parts, "layer", layer)
    steps = NativeSteps(parts, next(iter(SETS.values())), "")
    gc.collect()
    assert len(made) == 3 * parts.config.num_hidden_layers
    assert all(tensor() is None for tensor in made)
    assert steps.step_bytes(1) > steps.step_bytes(0) > 0
