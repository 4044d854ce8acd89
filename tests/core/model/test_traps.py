"""The model's traps that no other law catches; each test fails when the trap is stepped into."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from quant.dense import DenseMatrix
from tests.core.machine.simulated import Machine
from tests.core.model_parts import parts_of
from tests.core.tiny_models import reference_model, save_native, save_original
from zaya_core.config.rope import RopeParameters
from zaya_core.errors import DeviceError, UsageError
from zaya_core.load import load_model
from zaya_core.machine.device import choose_placement
from zaya_core.model.norm import QKNorm, RMSNorm
from zaya_core.model.residual import ResidualScaling
from zaya_core.model.rope import RotaryEmbedding, rotate
from zaya_core.model.router import Router, skip_can_win

GENERATOR = torch.Generator().manual_seed(3)


def random(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def router_tensors(biases):
    width, hidden = 12, 20
    shapes = {
        "down_proj.weight": (width, hidden),
        "down_proj.bias": (width,),
        "router_states_scale": (width,),
        "router_mlp.norm.weight": (width,),
        "router_mlp.fc1.weight": (width, width),
        "router_mlp.fc1.bias": (width,),
        "router_mlp.fc2.weight": (width, width),
        "router_mlp.fc2.bias": (width,),
        "router_mlp.out_proj.weight": (len(biases), width),
    }
    return {name: random(*shape) for name, shape in shapes.items()} | {"balancing_biases": torch.tensor(biases)}


def test_the_router_chooses_with_bias_and_weighs_without_and_uses_the_exact_gelu():
    tensors = router_tensors([0.3, -0.2, 0.1, 0.0, -1.0])
    x, before = random(50, 20), random(50, 12)
    choice, weight, state = Router(tensors, 1e-5)(x, before)
    hidden = x @ tensors["down_proj.weight"].T + tensors["down_proj.bias"] + before * tensors["router_states_scale"]
    torch.testing.assert_close(state, hidden, atol=1e-5, rtol=1e-5)
    hidden = hidden / (hidden.square().mean(-1, keepdim=True) + 1e-5).sqrt() * tensors["router_mlp.norm.weight"]
    for layer in ("fc1", "fc2"):
        hidden = hidden @ tensors[f"router_mlp.{layer}.weight"].T + tensors[f"router_mlp.{layer}.bias"]
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    p = torch.softmax(hidden @ tensors["router_mlp.out_proj.weight"].T, -1)
    expected = (p + tensors["balancing_biases"]).argmax(-1)
    assert (expected != p.argmax(-1)).any(), "the biases must decide somewhere"
    assert choice.tolist() == expected.tolist()
    torch.testing.assert_close(weight, p[torch.arange(50), expected], atol=2e-6, rtol=2e-5)


@pytest.mark.parametrize(
    ("biases", "can_win"),
    [([0.0, -0.1, -1.0], False), ([0.1, -3.0, -1.5], False), ([-0.1, -0.1, -1.0], True), ([0.5, 0.5, -0.9], True)],
)
def test_the_skip_branch_is_left_out_only_where_skip_can_never_win(biases, can_win):
    assert skip_can_win(torch.tensor(biases)) is can_win


def test_a_residual_merge_adds_the_bias_before_it_scales():
    parts = [random(8) for _ in range(4)]
    branch, residual = random(2, 3, 8), random(2, 3, 8)
    expected = (branch + parts[1]) * parts[0] + (residual + parts[3]) * parts[2]
    torch.testing.assert_close(ResidualScaling(*parts)(branch, residual), expected, atol=1e-5, rtol=1e-5)


def test_the_residual_merge_keeps_what_bf16_would_lose():
    one, zero = torch.ones(4), torch.zeros(4)
    merged = ResidualScaling(one, zero, one, zero)(
        torch.full((1, 1, 4), 1e-3, dtype=torch.bfloat16), torch.ones(1, 1, 4)
    )
    assert merged.dtype == torch.float32
    assert (merged > 1.0005).all()


def test_norms_survive_values_whose_squares_overflow_float16():
    large = torch.full((1, 1, 3, 8), 3000.0)
    assert QKNorm(torch.ones(1), 2, 8)(large).isfinite().all()
    assert RMSNorm(torch.ones(8), 1e-5)(large).isfinite().all()


def test_a_zero_head_normalises_to_zero_and_not_to_nan():
    assert (QKNorm(torch.ones(1), 2, 8)(torch.zeros(1, 1, 3, 8)) == 0).all()


def test_a_table_of_angles_has_those_of_each_position_to_the_bit():
    rotary = RotaryEmbedding(RopeParameters(5_000_000.0, 0.5), 128, torch.device("cpu"))
    for positions in (1, 4096, 4097, 20_000, 300):
        some = torch.tensor([[0, positions // 3, positions - 1]])
        for table, angles in zip(rotary.table(positions), rotary(some), strict=True):
            assert table.is_contiguous() and torch.equal(table[:, some[0]], angles)


def test_rotary_frequencies_span_the_rotated_width_and_leave_the_rest():
    cos, sin = RotaryEmbedding(RopeParameters(100.0, 0.5), 8, torch.device("cpu"))(torch.tensor([[3]]))
    angles = [3.0 / 100.0 ** (i / 4) for i in (0, 2)] * 2
    torch.testing.assert_close(cos[0, 0, 0], torch.tensor(angles).cos())
    x = random(1, 1, 2, 8)
    turned = rotate(x, cos, sin)
    assert torch.equal(turned[..., 4:], x[..., 4:])
    torch.testing.assert_close(turned[0, 0, 0, 0], x[0, 0, 0, 0] * cos[0, 0, 0, 0] - x[0, 0, 0, 2] * sin[0, 0, 0, 0])


def test_logits_are_float32_and_not_rounded_to_bf16(tmp_path):
    model = load_model(save_native(reference_model("base", dtype=torch.bfloat16), tmp_path), device="cpu")
    assert model.dtype == torch.bfloat16
    logits = model(torch.tensor([[5, 6, 7]]))
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_a_bf16_product_in_float32_is_exact_to_float32(rows):
    weight, x = random(3000, 64).bfloat16(), random(rows, 64).bfloat16()
    expected = x.double() @ weight.double().T
    torch.testing.assert_close(DenseMatrix(weight).matmul_float32(x).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("has_bf16", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 17, 300])
def test_every_way_of_multiplying_bf16_agrees(rows, has_bf16, monkeypatch):
    monkeypatch.setattr("quant.dense.has_bf16_products", lambda: has_bf16)
    weight, bias, x = random(700, 96).bfloat16(), random(700).bfloat16(), random(rows, 96).bfloat16()
    expected = F.linear(x.float(), weight.float(), bias.float())
    torch.testing.assert_close(DenseMatrix(weight, bias).matmul(x).float(), expected, atol=0.1, rtol=0.01)


def test_small_parameters_are_float32_in_a_bf16_model(tmp_path):
    parts = parts_of(save_native(reference_model("base", dtype=torch.bfloat16), tmp_path))
    layer = parts.layer(1)
    tensors = [parts.head().norm.weight, layer.input_layernorm.weight, layer.qk_norm.scale]
    tensors += [layer.router.balancing_biases, layer.router.down_proj[0], layer.post_mlp_residual_scale.constant]
    tensors += [layer.qkv_proj.convolutions.grouped_weight, parts.embedding().scale]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


def test_float16_is_refused_with_the_reason():
    for name in ("float16", torch.float16, "half"):
        with pytest.raises(UsageError, match="65,504"):
            choose_placement("cpu", name, torch.bfloat16)


def test_a_missing_gpu_is_an_error_and_never_a_silent_cpu(monkeypatch, tmp_path):
    Machine().enter(monkeypatch, tmp_path)
    with pytest.raises(DeviceError, match="sees no GPU"):
        choose_placement("cuda", "auto", torch.bfloat16)
    placement = choose_placement("auto", "auto", torch.bfloat16)
    assert placement.device.type == "cpu"
    assert "sees no GPU" in placement.reason


def test_experts_of_the_original_layout_are_not_stacked_into_a_copy(tmp_path):
    """Each expert stays where it is mapped: loading allocates no second copy of the weights."""
    folder = save_original(reference_model("base", dtype=torch.bfloat16), tmp_path)
    matrices = parts_of(folder).layer(0).experts.gate_up_proj.matrices
    storages = {matrix.weight.untyped_storage().data_ptr() for matrix in matrices}
    assert len(matrices) == 4
    stacked = storages == {matrices[0].weight.data_ptr()}
    assert not stacked
    assert torch.float32 == parts_of(folder, "float32").layer(0).experts.gate_up_proj.matrices[0].weight.dtype
