"""What is wrong for a step's kernel is refused by its host function, with the numbers that it found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

pytest.importorskip("triton")

from tests.gpu.triton.layer_parts import cache_of, cca_of, norm_of, random, router_of, scaling_of, whole
from tests.gpu.triton.packed import matrix_of, on_card
from tests.gpu.triton.place import PLACE
from zaya_core.kernels.triton.angles import angles
from zaya_core.kernels.triton.cca import CCAState, CCAWeights, cca
from zaya_core.kernels.triton.embedding import embedding
from zaya_core.kernels.triton.merge_norm import first_norm, merge_norm
from zaya_core.kernels.triton.paged_cache import LayerKV
from zaya_core.kernels.triton.router import RouterWeights, router_choice, router_down
from zaya_core.model.cca import CausalConvolutions


def rows(*shape):
    return random(*shape).to(PLACE)


def refused(match, step, arguments, **wrong):
    """The step takes these arguments, and with one changed it does not."""
    step(**arguments)
    with pytest.raises(ValueError, match=match):
        step(**{**arguments, **wrong})


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"ids": torch.zeros(2, dtype=torch.int64, device=PLACE)}, r"ids must be \(2,\) int32.*int64"),
        ({"positions": whole([1])}, r"positions must be \(2,\)"),
        ({"residual": rows(2, 128)}, "128 wide"),
        ({"bias": rows(64).bfloat16()}, "bias must be .* float32.*bfloat16"),
        ({"scale": rows(128)[::2]}, "scale must be .*contiguous"),
        ({"embed_tokens": on_card(matrix_of("int8", 16, 64, bias=rows(16)))}, "no bias"),
    ],
)
def test_embedding(wrong, match):
    arguments = {"ids": whole([1, 2]), "positions": whole([0, 0]), "embed_tokens": on_card(matrix_of("int8", 16, 64))}
    refused(match, embedding, arguments | {"bias": rows(64), "scale": rows(64), "residual": rows(2, 64)}, **wrong)


def test_merge_and_norm_and_angles():
    residual = rows(2, 40)
    arguments = {"branch": rows(2, 40), "residual": residual, "scaling": scaling_of(40), "norm": norm_of(40)}
    arguments |= {"residual_out": rows(2, 40), "normed": rows(2, 40)}
    refused("a buffer of its own", merge_norm, arguments, residual_out=residual)
    refused(r"branch must be \(2, 40\)", merge_norm, arguments, branch=rows(2, 41))
    refused(r"hidden_states_scale must be \(40,\)", merge_norm, arguments, scaling=scaling_of(41))
    refused(
        r"norm must be \(40,\)",
        first_norm,
        {"residual": residual, "norm": norm_of(40), "normed": rows(2, 40)},
        norm=norm_of(8),
    )
    found = {"positions": whole([1, 2]), "frequencies": rows(8), "cos": rows(2, 8), "sin": rows(2, 8)}
    refused(r"sin must be \(2, 8\)", angles, found, sin=rows(2, 4))
    refused(r"frequencies must be \(8,\)", angles, found, frequencies=rows(4))


def test_router():
    weights, scaling, norm = RouterWeights.of(router_of(40, 12, [0.0] * 4)), scaling_of(40), norm_of(40)
    residual, before = rows(2, 40), rows(2, 12)
    down = {"branch": rows(2, 40), "residual": residual, "scaling": scaling, "norm": norm, "weights": weights}
    down |= {"residual_out": rows(2, 40), "normed": rows(2, 40), "own": rows(2, 12)}
    refused("a buffer of its own", router_down, down, residual_out=residual)
    refused(r"own must be \(2, 12\)", router_down, down, own=rows(2, 13))
    choice = {"own": rows(2, 12), "before": before, "weights": weights, "positions": whole([1, 2])}
    choice |= {"state": rows(2, 12), "scratch": rows(2, 3, 12), "choice": whole([0, 0]), "weight": rows(2)}
    refused("a buffer of its own", router_choice, choice, state=before)
    refused(r"scratch must be \(2, 3, 12\)", router_choice, choice, scratch=rows(2, 2, 12))
    refused("choice must be .*int32", router_choice, choice, choice=torch.zeros(2, dtype=torch.int64, device=PLACE))
    refused(r"fc2 must be \(12, 12\)", router_choice, choice, weights=replace(weights, fc2=rows(12, 13)))


def test_cca():
    projection, qk_norm = cca_of(4, 2, 16, width=24)
    weights = CCAWeights.of(projection.convolutions, qk_norm)
    kv, _, _ = cache_of(3, 2, 16, "float32")
    state = CCAState(rows(4, 2, 96), rows(4, 16), whole([0, 1]), whole([2, 3]))
    arguments = {"qkv": rows(2, 128), "weights": weights, "angles": (rows(2, 8), rows(2, 8)), "state": state, "kv": kv}
    arguments |= {"positions": whole([0, 1]), "table": whole([[1], [2]]), "query": rows(2, 64)}
    refused(r"qkv must be \(2, 128\)", cca, arguments, qkv=rows(2, 96))
    refused(r"slot_out must be \(2,\) int32", cca, arguments, state=replace(state, slot_out=whole([1])))
    refused(r"delayed must be \(4, 16\)", cca, arguments, state=replace(state, delayed=rows(4, 32)))
    refused("delayed must be .* float32", cca, arguments, state=replace(state, delayed=rows(4, 16).bfloat16()))
    refused("18 of 16", cca, arguments, angles=(rows(2, 18), rows(2, 18)))
    refused(r"grouped must be \(6, 32, 16\)", cca, arguments, weights=replace(weights, grouped=rows(6, 16, 16)))
    refused(r"table must be \(2, 1\) int32", cca, arguments, table=torch.zeros(2, 1, dtype=torch.int64, device=PLACE))


def test_convolutions_over_more_columns_and_odd_heads():
    _, qk_norm = cca_of(4, 2, 16, width=24)
    longer = CausalConvolutions((rows(96, 1, 3), rows(96)), (rows(96, 16, 2), rows(96)), 16)
    with pytest.raises(ValueError, match="over 3 and 2"):
        CCAWeights.of(longer, qk_norm)
    odd = CausalConvolutions((rows(72, 1, 2), rows(72)), (rows(72, 12, 2), rows(72)), 12)
    with pytest.raises(ValueError, match="power of two; it is 12"):
        CCAWeights.of(odd, qk_norm)


def test_keys_and_values():
    kv, _, _ = cache_of(2, 2, 16, "int8")
    with pytest.raises(ValueError, match="scales"):
        LayerKV(kv.keys, kv.values)
    with pytest.raises(ValueError, match="scales"):
        LayerKV(kv.keys.float(), kv.values.float(), kv.key_scales, kv.value_scales)
    with pytest.raises(ValueError, match=r"values must be .*int8"):
        replace(kv, values=kv.values.float())
    with pytest.raises(ValueError, match=r"key_scales must be \(2, 2, 256\)"):
        replace(kv, key_scales=rows(2, 2, 255))
    with pytest.raises(ValueError, match=r"\(blocks, G, 256, K\)"):
        LayerKV(rows(2, 2, 64, 16), rows(2, 2, 64, 16))
