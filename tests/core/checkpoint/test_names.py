"""The names and shapes of both layouts, counted against the releases and against a second writing of the renames."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from tests.core.config.test_config import BASE, LEGACY_8B, NATIVE_8B, NATIVE_74B
from zaya_core.checkpoint.names import parameters
from zaya_core.checkpoint.original_names import layout_of_names
from zaya_core.config.parse import parse_config


def sources(raw):
    return {name: one.source_shape for one in parameters(parse_config(raw)) for name in one.sources}


@pytest.mark.parametrize(
    ("raw", "tensors"),
    [(NATIVE_8B, 1283), (LEGACY_8B, 2483), (BASE, 2483), (NATIVE_74B, 1923)],
    ids=["8B", "8B-legacy", "base", "74B"],
)
def test_as_many_tensors_as_the_release_has(raw, tensors):
    assert len(sources(raw)) == tensors


@pytest.mark.parametrize(
    ("raw", "billions"),
    [(NATIVE_8B, 8.840), (LEGACY_8B, 8.840), (BASE, 8.840), (NATIVE_74B, 74.78)],
    ids=["8B", "8B-legacy", "base", "74B"],
)
def test_as_many_numbers_as_the_release_has(raw, billions):
    assert sum(math.prod(shape) for shape in sources(raw).values()) / 1e9 == pytest.approx(billions, rel=3e-4)


EXAMPLES_8B = {
    "model.embed_tokens.weight": (262272, 2048),
    "model.input_hidden_states_scale": (2048,),
    "model.norm.weight": (2048,),
    "model.layers.39.input_layernorm.weight": (2048,),
    "model.layers.7.self_attn.qkv_proj.q_proj.weight": (1024, 2048),
    "model.layers.7.self_attn.qkv_proj.k_proj.weight": (256, 2048),
    "model.layers.7.self_attn.qkv_proj.v_proj_delayed.weight": (128, 2048),
    "model.layers.7.self_attn.qkv_proj.conv_qk_depthwise.weight": (1280, 1, 2),
    "model.layers.7.self_attn.qkv_proj.conv_qk_grouped.weight": (1280, 128, 2),
    "model.layers.7.self_attn.qk_norm.temp": (2,),
    "model.layers.7.self_attn.o_proj.weight": (2048, 1024),
    "model.layers.7.mlp.gate.down_proj.bias": (256,),
    "model.layers.7.mlp.gate.router_states_scale": (256,),
    "model.layers.7.mlp.gate.balancing_biases": (17,),
    "model.layers.7.mlp.gate.router_mlp.norm.weight": (256,),
    "model.layers.7.mlp.gate.router_mlp.out_proj.weight": (17, 256),
    "model.layers.7.mlp.experts.gate_up_proj": (16, 4096, 2048),
    "model.layers.7.mlp.experts.down_proj": (16, 2048, 2048),
    "model.layers.7.post_mlp_residual_scale.residual_bias": (2048,),
}
EXAMPLES_LEGACY = {
    "model.layers.0.res_scale.hidden_states_scale": (2048,),
    "model.layers.78.input_norm.weight": (2048,),
    "model.layers.79.input_norm.weight": (2048,),
    "model.layers.14.self_attn.qkv.linear_q.weight": (1024, 2048),
    "model.layers.14.self_attn.qkv.val_proj2.weight": (128, 2048),
    "model.layers.14.self_attn.qkv.conv_qk.1.weight": (1280, 128, 2),
    "model.layers.14.self_attn.qkv.temp": (2,),
    "model.layers.15.zaya_block.router.rmsnorm_eda.weight": (256,),
    "model.layers.15.zaya_block.router.router_mlp.2.bias": (256,),
    "model.layers.15.zaya_block.router.router_mlp.4.weight": (17, 256),
    "model.layers.15.zaya_block.router.balancing_biases": (17,),
    "model.layers.15.zaya_block.experts.local_experts.15.linear_fc1.weight": (4096, 2048),
    "model.layers.15.zaya_block.experts.local_experts.0.linear_fc2.weight": (2048, 2048),
    "model.layers.15.res_scale.residual_scale": (2048,),
    "model.res_scale.hidden_states_bias": (2048,),
    "model.final_norm.weight": (2048,),
}


@pytest.mark.parametrize(("raw", "examples"), [(NATIVE_8B, EXAMPLES_8B), (LEGACY_8B, EXAMPLES_LEGACY)])
def test_names_and_shapes_of_the_8b(raw, examples):
    found = sources(raw)
    assert {name: found.get(name) for name in examples} == examples


@pytest.mark.parametrize("raw", [NATIVE_8B, LEGACY_8B])
def test_only_the_first_layer_has_no_router_state_scale(raw):
    layers = [
        int(match[1]) for name in sources(raw) if (match := re.search(r"layers\.(\d+)\..*router_states_scale", name))
    ]
    step = 1 if raw is NATIVE_8B else 2
    assert sorted(layers) == [layer * step + step - 1 for layer in range(1, 40)]


def test_every_source_belongs_to_one_parameter():
    for raw in (NATIVE_8B, LEGACY_8B):
        names = [name for one in parameters(parse_config(raw)) for name in one.sources]
        assert len(names) == len(set(names))


def test_both_layouts_have_the_same_parameters_in_the_same_order():
    native, original = (parameters(parse_config(raw)) for raw in (NATIVE_8B, LEGACY_8B))
    assert [(one.name, one.shape) for one in native] == [(one.name, one.shape) for one in original]


def test_biases_and_an_untied_head_are_asked_for_where_the_config_says_so():
    config = replace(parse_config(NATIVE_8B), attention_bias=True, lm_head_bias=True, tie_word_embeddings=False)
    found = {one.name: one.shape for one in parameters(config)}
    assert found["model.layers.0.self_attn.o_proj.bias"] == (2048,)
    assert found["model.layers.0.self_attn.qkv_proj.v_proj_current.bias"] == (128,)
    assert (found["lm_head.weight"], found["lm_head.bias"]) == ((262272, 2048), (262272,))


@pytest.mark.parametrize(("raw", "layout"), [(NATIVE_8B, "native"), (LEGACY_8B, "original"), (BASE, "original")])
def test_the_layout_shows_in_the_names(raw, layout):
    assert layout_of_names(sources(raw)) == layout


@pytest.mark.parametrize("names", [set(), {"lm_head.weight"}, {"model.norm.weight", "model.final_norm.weight"}])
def test_names_of_neither_or_both_layouts_decide_nothing(names):
    assert layout_of_names(names) is None
