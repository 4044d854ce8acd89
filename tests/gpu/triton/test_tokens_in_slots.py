"""A layer's attention, token after token: kernels over slots and a paged cache, beside the reference over tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("triton")
pytest.importorskip("transformers")

from quant.kernels.triton.launch import IS_INTERPRETED, run_all
from tests.core.cache.slot_states import SlotSteps
from tests.core.model_parts import parts_of
from tests.core.tiny_models import reference_model, save_native
from tests.gpu.triton.place import assert_near
from tests.gpu.triton.sanitizer import sanitized
from zaya_core.cache.cache import Cache
from zaya_core.cache.step import CacheStep
from zaya_core.kernels.reference import ReferenceSteps
from zaya_core.kernels.triton.angles import angles
from zaya_core.kernels.triton.attention_step import AttentionShape, Parts, attention_step
from zaya_core.kernels.triton.cca import CCAState, CCAWeights, cca
from zaya_core.kernels.triton.merge_norm import first_norm
from zaya_core.kernels.triton.paged_cache import LayerKV
from zaya_core.load import assemble
from zaya_core.model.forward_pass import ForwardPass
from zaya_core.sampling.reference import ReferenceSampling

HEADS, GROUPS, HEAD_DIM, WINDOW = 4, 2, 16, 20
SHAPE: dict[str, Any] = {"head_dim": HEAD_DIM, "layer_types": ["hybrid_sliding"], "sliding_window": WINDOW}

pytestmark = pytest.mark.skipif(not IS_INTERPRETED, reason="the reference is on the CPU")


def with_kernels(layer, rotary, residual, step):
    """What `project` and `attend` of a layer do, with a token's kernels; its state goes into the spare slots."""
    rows = len(residual)
    states, slots, kv = step.cache.states, step.cache.cca, LayerKV.of(step.cache.pool, 0)
    positions, table = step.positions[:, 0].int(), step.tables.int()
    normed, query, out = torch.empty_like(residual), *torch.empty(2, rows, HEADS * HEAD_DIM)
    cos, sin = torch.empty(2, rows, len(rotary.frequencies))
    run_all(
        [first_norm(residual, layer.input_layernorm, normed), angles(positions, rotary.frequencies, cos, sin)],
        residual.device,
    )
    qkv = torch.cat([matrix.matmul(normed) for matrix in layer.qkv_proj.matrices], dim=1)
    current, spare = (torch.tensor(one, dtype=torch.int32) for one in (slots.current, slots.spare))
    state = CCAState(states.tail[0], states.delayed[0], current, spare)
    weights = CCAWeights.of(layer.qkv_proj.convolutions, layer.qk_norm)
    parts = Parts.empty(rows, HEADS, HEAD_DIM, 4, residual.device)
    project = cca(qkv, weights, (cos, sin), positions, table, state, kv, query)
    attend = attention_step(query, kv, positions, table, WINDOW, parts, out, AttentionShape(4, 64, 4))
    run_all([project, *attend], residual.device)
    step.states_are_written()
    return out


@pytest.mark.parametrize("kv", ["auto", "int8"])
def test_tokens_over_the_end_of_a_block_while_a_row_joins(tmp_path, kv):
    saved = save_native(reference_model("one_layer", **SHAPE), tmp_path)
    models = [
        assemble(parts := parts_of(saved, kv=kv), one(parts, ReferenceSampling(), "", ""), "")
        for one in (ReferenceSteps, SlotSteps)
    ]
    layer = parts_of(saved, kv=kv).layer(0)
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(3, 131, (1, length), generator=generator) for length in (254, 30, 255)]
    rows = [[model.new_cache() for _ in prompts] for model in models]
    for prompt, *caches in zip(prompts, *rows, strict=True):
        for model, one in zip(models, caches, strict=True):
            model(prompt, one)
    caches = [Cache.join(ours[:2]) for ours in rows]
    for token in range(3):
        if token == 1:
            caches = [Cache.join([joined, ours[2]]) for joined, ours in zip(caches, rows, strict=True)]
        ids = torch.randint(3, 131, (caches[0].batch_size, 1), generator=generator)
        residual = models[0].steps.embed(ids)
        with torch.inference_mode(), CacheStep.begin(caches[0], 1) as step:
            pass_ = ForwardPass(models[0].config, models[0].rotary, step)
            expected = layer.attend(layer.project(residual, pass_), pass_)
        with torch.inference_mode(), CacheStep.begin(caches[1], 1) as step, sanitized():
            found = with_kernels(layer, models[1].rotary[layer.layer_type], residual[:, 0], step)
        assert_near(found, expected[:, 0], 2e-5 if kv == "auto" else 1e-2)
        for ours, theirs in zip(caches[1].states.tensors(caches[1].cca), caches[0].cca, strict=True):
            assert_near(ours, theirs)
