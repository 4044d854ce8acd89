"""The fused steps are the layer that `Block` spells out; a row's bits are its own, whatever runs beside it."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from quant.kernels.native import supported_instruction_sets
from quant.kernels.resolve import cpu_products
from tests.core.kernels.native_attention import attend, laid_out, near
from tests.core.quantized_models import quantized_folder, source_folder
from zaya_core.kernels.key_values import KeyValues
from zaya_core.kernels.layer import has_prompt_attention
from zaya_core.kernels.prompt_attention import can_attend
from zaya_core.load import load_model
from zaya_core.model.attention import AttentionInputs, grouped_query_attention
from zaya_core.model.rope import rotate
from zaya_core.quantize.job import QuantizeSettings

pytest.importorskip("transformers")
SETS = supported_instruction_sets()
pytestmark = pytest.mark.skipif(not SETS, reason="zaya was installed without a C++ compiler")

IDS = torch.randint(3, 700, (3, 23), generator=torch.Generator().manual_seed(3))
KINDS = {
    "base": ("native", {}),
    "attention_bias": ("native", {}),
    "one_sliding_layer": ("native", {}),
    "longer_convolutions": ("native", {}),
    "many_experts_wide_router": ("native", {"router_hidden_size": 48, "hidden_size": 320}),
    "whole_head_rotated": ("original", {}),  # here the skip class can win
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("fused")
    found = {}
    for variant, (layout, sizes) in KINDS.items():
        source = source_folder(root / f"{variant}.source", layout, variant, **sizes)
        found[variant] = quantized_folder(source, root / variant, QuantizeSettings("int4", "int8"))
    return found


def loaded(folder, monkeypatch, instruction_set, dtype="float32", kv="auto"):
    monkeypatch.setenv("ZAYA_KERNELS", f"native:{instruction_set}")
    cpu_products.cache_clear()
    try:
        return load_model(folder, device="cpu", dtype=dtype, kv=kv)
    finally:
        monkeypatch.undo()
        cpu_products.cache_clear()


def spelled_out(model):
    blocks = [replace(block, fused=None) for block in model.blocks]
    return replace(model, blocks=blocks, decoder=None, fused_embedding=None, fused_head=None)


def begun(model, batch, columns, lengths=None):
    step = model.new_cache(batch).begin(columns, lengths)
    step.__enter__()
    return step, AttentionInputs.by_layer_type(model.config, model.rotary, step)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("variant", KINDS)
def test_each_step_is_what_the_block_spells_out(folders, monkeypatch, variant, name):
    model = loaded(folders[variant], monkeypatch, name)
    torch.manual_seed(0)
    residual, lengths = torch.randn(2, 7, model.config.hidden_size) * 3, [7, 4]
    for block in model.blocks:
        attention, fused = block.attention, block.fused
        step, inputs = begun(model, 2, 7, lengths)
        seen = inputs[block.layer_type]
        qk, value = attention.qkv_proj(block.input_layernorm(residual), step, block.layer)
        qk = rotate(attention.qk_norm(qk), *seen.angles)
        heads = attention.num_attention_heads
        projected = fused.native.project(
            residual, step.conv_tail(block.layer), step.delayed(block.layer), step.lengths, *seen.angles
        )
        expected = (qk[:, :, :heads].flatten(2), qk[:, :, heads:].flatten(2), value.flatten(2))
        for ours, theirs in zip(projected, (*expected, step._tails[-1], step._delayed[-1]), strict=True):
            near(ours, theirs, 1e-5)

        keys, values = step.append(block.layer, qk[:, :, heads:], value)
        attended = grouped_query_attention(qk[:, :, :heads], keys, values, seen).flatten(2)
        merged = block.post_attention_residual_scale(attention.o_proj.matmul(attended), residual)
        normed = block.post_attention_layernorm(merged).flatten(0, 1)
        choice, weight, state = block.router(normed, None)
        branch = block.experts(normed, choice, weight, block.router.can_skip)
        ours = residual.clone()
        our_state, our_choice = fused.native.mix(attended, ours, None)
        assert torch.equal(our_choice, choice)
        near(our_state, state, 1e-5)
        # One code of an input rounded the other way is 1/127 of its group's largest.
        near(ours, block.post_mlp_residual_scale(branch.view_as(merged), merged), 5e-3)


@pytest.mark.parametrize("kv", ["auto", "int8"])
@pytest.mark.parametrize("variant", KINDS)
def test_a_prompt_in_one_pass_in_chunks_in_steps_and_beside_others_gives_the_same(folders, monkeypatch, variant, kv):
    model = loaded(folders[variant], monkeypatch, next(iter(SETS)), kv=kv)
    assert all(block.fused is not None for block in model.blocks)
    whole = model(IDS)
    near(whole, spelled_out(model)(IDS), 0.03)
    for cuts in ((0, 9, 23), range(24), (0, 1, 22, 23)):
        cache = model.new_cache(3)
        parts = [model(IDS[:, start:stop], cache) for start, stop in pairwise(cuts)]
        near(torch.cat(parts, dim=1), whole, 0.03)
    padded = model(IDS, lengths=[23, 5, 11])
    near(padded[1, :5], whole[1, :5], 0.03)


@pytest.fixture(scope="module")
def by_format(tmp_path_factory):
    """Folders whose vocabulary is stored in each format."""
    root = tmp_path_factory.mktemp("vocabulary")
    found = {"bf16": source_folder(root / "bf16", "native", "base")}
    for dense in ("int8", "int4"):
        found[dense] = quantized_folder(found["bf16"], root / dense, QuantizeSettings("int4", dense))
    return found


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("dense", ["bf16", "int8", "int4"])
def test_both_ends_are_what_the_model_spells_out(by_format, monkeypatch, dense, name):
    """The embedding to the bit; logits of a row to the bit whatever is beside it, and near those of torch's norm."""
    has_product = dense != "bf16" or SETS[name].has_bf16
    for dtype in ("bfloat16",) if dense == "bf16" else ("bfloat16", "float32"):
        model = loaded(by_format[dense], monkeypatch, name, dtype)
        assert model.fused_embedding is not None and (model.fused_head is not None) == has_product
        assert torch.equal(model._embed(IDS), spelled_out(model)._embed(IDS))
        residual = torch.randn(5, 1, model.config.hidden_size) * 3
        logits = model._logits(residual)
        near(logits, spelled_out(model)._logits(residual), 1e-2)
        assert torch.equal(logits, torch.cat([model._logits(row[None]) for row in residual]))


@pytest.mark.parametrize("id", [-1, 2**40])
def test_an_id_that_is_no_row_is_refused(folders, monkeypatch, id):
    model = loaded(folders["base"], monkeypatch, next(iter(SETS)))
    with pytest.raises(IndexError, match=f"{id}.* the vocabulary has 0 to {model.config.vocab_size - 1}"):
        model(torch.tensor([[5, id]]))


@pytest.fixture(scope="module")
def heads_of_32(tmp_path_factory):
    root = tmp_path_factory.mktemp("heads_of_32")
    source = source_folder(root / "source", "native", "one_sliding_layer", head_dim=32)
    return quantized_folder(source, root / "model", QuantizeSettings("int4", "int8"))


@pytest.mark.parametrize("kv", ["auto", "int8"])
@pytest.mark.parametrize("name", [name for name, products in SETS.items() if has_prompt_attention(products)])
def test_a_prompt_whose_attention_is_native_is_as_near_to_float32_as_the_block_spelled_out(
    heads_of_32, monkeypatch, name, kv
):
    """On the mean: a token for which bf16 chooses another expert is off by a tenth in either of both."""
    model = loaded(heads_of_32, monkeypatch, name, "bfloat16", kv)
    assert all(can_attend(block.fused.native, model.dtype) for block in model.blocks)
    lengths = [23, 5, 11]
    real = torch.arange(23) < torch.tensor(lengths)[:, None]
    exact = spelled_out(loaded(heads_of_32, monkeypatch, name, "float32", kv))(IDS, lengths=lengths)[real]
    rounded = (spelled_out(model)(IDS, lengths=lengths)[real] - exact).abs().mean()
    assert (model(IDS, lengths=lengths)[real] - exact).abs().mean() < 1.3 * rounded
    cache = model.new_cache(3)
    parts = [model(IDS[:, start:stop], cache, [min(max(n - start, 0), stop - start) for n in lengths])
             for start, stop in pairwise((0, 9, 23))]  # fmt: skip
    assert (torch.cat(parts, dim=1)[real] - exact).abs().mean() < 1.3 * rounded


@pytest.mark.parametrize("name", SETS)
def test_a_row_alone_has_the_bits_it_has_among_others(folders, monkeypatch, name):
    model = loaded(folders["base"], monkeypatch, name, "bfloat16")
    prompt = model.new_cache(1)
    model(IDS[:1], prompt)
    caches = [prompt.fork(1) for _ in range(5)]
    together = prompt.fork(5)
    following = torch.randint(3, 700, (5, 4))
    for column in following.t():
        alone = [model(token[None, None], cache) for token, cache in zip(column, caches, strict=True)]
        assert torch.equal(model(column[:, None], together), torch.cat(alone))


@pytest.mark.parametrize("kv", ["auto", "int8"])
def test_instruction_sets_and_threads_change_no_bit(folders, monkeypatch, kv):
    outputs = []
    before = torch.get_num_threads()
    try:
        for name in SETS:
            model = loaded(folders["longer_convolutions"], monkeypatch, name, kv=kv)
            for threads in (1, 2, 3, 4):
                torch.set_num_threads(threads)
                cache = model.new_cache(3)
                outputs.append(torch.cat([model(IDS[:, i : i + 1], cache) for i in range(6)]))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(output, outputs[0]) for output in outputs)


def test_two_threads_may_run_two_caches_at_once(folders, monkeypatch):
    model = loaded(folders["base"], monkeypatch, next(iter(SETS)))

    def steps(row):
        cache = model.new_cache(1)
        return torch.cat([model(IDS[row : row + 1, i : i + 1], cache) for i in range(10)])

    alone = [steps(row) for row in (0, 1)]
    model.new_cache(2)  # blocks enough for two, so that the pool does not grow while both run
    found = {}
    threads = [threading.Thread(target=lambda row=row: found.update({row: steps(row)})) for row in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[row], alone[row]) for row in (0, 1))


def test_a_step_finds_the_keys_and_values_where_they_went_when_the_pool_grew(folders, monkeypatch):
    model = loaded(folders["base"], monkeypatch, next(iter(SETS)))

    def steps(blocks_between):
        cache = model.new_cache(1)
        found = []
        for i, blocks in enumerate(blocks_between):
            model.pool.reserve(blocks)
            found.append(model(IDS[:1, i : i + 1], cache))
        return torch.cat(found)

    moved = steps([0, 40, 0, 90, 0])
    assert model.pool.generation > 1
    assert torch.equal(steps([0] * 5), moved)


def rows_of(cache):
    """All that is stored of each row."""
    rows = zip(cache.tables, cache.row_lengths, strict=True)
    return [tensor.float() for table, length in rows for tensor in table.read(length).values()]


@pytest.mark.parametrize(("dtype", "kv"), [("float32", "auto"), ("bfloat16", "auto"), ("float32", "int8")])
def test_a_token_behind_many_blocks_is_what_the_block_spells_out(folders, monkeypatch, dtype, kv):
    """Rows of 1, 256 and 4,500 positions of noise, whose blocks are not in order; one layer slides."""
    model = loaded(folders["one_sliding_layer"], monkeypatch, next(iter(SETS)), dtype, kv)
    torch.manual_seed(1)
    cache = model.new_cache(3)
    model.pool.reserve(20)
    for storage in (layer for layers in model.pool.tensors.values() for layer in layers):
        noise = torch.randn(storage.shape)
        storage.copy_(
            (100 * noise).clamp(-127, 127)
            if storage.dtype == torch.int8
            else noise.abs() / 100
            if kv == "int8"
            else noise
        )
    for row, (table, length) in enumerate(zip(cache.tables, (0, 255, 4499), strict=True)):
        table.reserve(0, length)
        table.blocks.reverse()
        cache.row_lengths[row] = length
    ids = torch.tensor([[5], [6], [7]])
    start = cache.snapshot()
    ours = model(ids, cache)
    stored = rows_of(cache)
    cache.restore(start)
    # `Block` in bf16 rounds between the steps too; a step rounds to 16 bits what it multiplies by int8 keys and values,
    # after which a code of an activation is now and then another one.
    tolerance = 0.03 if (dtype, kv) == ("float32", "auto") else 0.06
    near(ours, spelled_out(model)(ids, cache), tolerance)
    for own, theirs in zip(stored, rows_of(cache), strict=True):
        near(own, theirs, tolerance)


def floats(storage, pool):
    """Keys and values in float32, (blocks, BLOCK, G, K)."""
    keys, values, *scales = (one.rows(x.float()) for one, x in zip(pool.arrangements.values(), storage, strict=True))
    return (keys * scales[0][..., None], values * scales[1][..., None]) if scales else (keys, values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
def test_long_rows_attend_over_many_blocks(folders, monkeypatch, dtype):
    name, kv = ("bfloat16" if dtype == torch.bfloat16 else "float32"), ("int8" if dtype == torch.int8 else "auto")
    model = loaded(folders["one_sliding_layer"], monkeypatch, next(iter(SETS)), name, kv)
    torch.manual_seed(1)
    config = model.config
    lengths = torch.tensor([1, 256, 2500])
    sizes = (12, 256, config.num_key_value_heads)
    noise = [(torch.randn(*sizes, config.head_dim) * (100 if dtype == torch.int8 else 1)).to(dtype) for _ in range(2)]
    if dtype == torch.int8:
        noise += [torch.rand(sizes) / 100 for _ in range(2)]
    storage = laid_out(noise)
    for one, laid, given in zip(model.pool.arrangements.values(), storage, noise, strict=True):
        assert torch.equal(one.rows(laid), given)
    tables = torch.stack([torch.randperm(12)[:10] for _ in range(3)])
    query = torch.randn(3, 1, config.num_attention_heads * config.head_dim)
    key, value = (torch.randn(3, 1, config.num_key_value_heads * config.head_dim) for _ in range(2))
    slots = tables[torch.arange(3), (lengths - 1) // 256] * 256 + (lengths - 1) % 256
    begin = torch.tensor([0, 7, 1100])
    for row in range(3):  # one after the other: their blocks overlap
        one = slice(row, row + 1)
        out = attend(
            model.blocks[0].fused.native,
            query[one],
            key[one],
            value[one],
            KeyValues(storage, tables[one].contiguous(), 256),
            slots[one],
            begin[one],
            lengths[one],
        )
        seen_keys, seen_values = (
            x[tables[row]].flatten(0, 1)[begin[row] : lengths[row]] for x in floats(storage, model.pool)
        )
        near(seen_keys[-1].flatten().float(), key[row, 0], 1e-9 if dtype == torch.float32 else 6e-3)
        expected = torch.nn.functional.scaled_dot_product_attention(
            query[row].view(1, -1, 1, config.head_dim),
            seen_keys.float()[None].transpose(1, 2),
            seen_values.float()[None].transpose(1, 2),
            enable_gqa=True,
        )
        near(out.flatten(), expected.flatten(), 1e-4 if dtype == torch.int8 else 1e-5)
