"""Errors: ceilings for each format, and that every refinement of rounding pays."""

from __future__ import annotations

import pytest
import torch

from quant.assemble import packed_matrix, quantize_matrix
from quant.compensation import MOST_DEVIATION, Compensation, InputStatistics, shrinkage_for
from quant.rounding import REACHES, nearest_codes, round_plain, round_searched, search_scales

# Relative errors |Q - W| / |W| of 256 x 2048 matrices; heavy: Student's t with 4 degrees of freedom.
CEILINGS = {
    ("int8", "Gaussian"): 0.0095,
    ("int8", "heavy"): 0.035,
    ("int4", "Gaussian"): 0.093,
    ("int4", "heavy"): 0.145,
    ("nf4", "Gaussian"): 0.095,
    ("nf4", "heavy"): 0.130,
}


def random_matrix(kind, n=256, k=2048, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n, k, generator=generator)
    if kind == "heavy":
        squares = torch.randn(4, n, k, generator=generator).square().sum(0)
        weight *= (4 / squares).sqrt()
    return weight / k**0.5


def relative(wrong, right):
    return float((wrong - right).norm() / right.norm())


@pytest.mark.parametrize(("kind", "weights"), CEILINGS)
def test_the_error_stays_under_its_ceiling(kind, weights):
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    weight = random_matrix(weights)
    matrix = packed_matrix(kind, quantize_matrix(kind, weight.bfloat16()), (256, 2048))
    assert relative(matrix.dequantize(), weight.bfloat16().float()) < CEILINGS[kind, weights]


@pytest.mark.parametrize("weights", ["Gaussian", "heavy"])
def test_searching_is_better_than_rounding_to_nearest_in_every_row(weights):
    weight = random_matrix(weights)
    plain = (round_plain(weight).dequantize() - weight).square().sum(1)
    searched = (round_searched(weight).dequantize() - weight).square().sum(1)
    assert (searched < plain).all()
    assert searched.sum() < 0.75 * plain.sum()


def test_a_searched_scale_is_the_best_for_its_codes():
    """In closed form: no other scale has a smaller error with the codes that the search had."""
    groups = random_matrix("heavy", 64, 64)
    scales = search_scales(groups).float()
    error = (nearest_codes(groups, scales.half()).float() * scales[:, None] - groups).square().sum(1)
    for reach in REACHES:
        extreme = groups.gather(1, groups.abs().argmax(1, keepdim=True))
        other = -extreme / reach
        tried = ((groups / other).round().clamp(-8, 7) * other - groups).square().sum(1)
        assert (error <= tried * 1.01).all()


def test_an_important_channel_is_met_where_it_matters():
    weight = random_matrix("Gaussian", 64, 256)
    importance = torch.ones(256)
    importance[[3, 200]] = 1e6
    plain = (round_searched(weight).dequantize() - weight).abs()[:, [3, 200]].mean()
    weighted = (round_searched(weight, importance).dequantize() - weight).abs()[:, [3, 200]].mean()
    assert weighted < plain / 3


def outputs_error(rounded, weight, x):
    exact = x @ weight.t()
    return relative(x @ rounded.dequantize().t(), exact)


def correlated_inputs(count, k, outliers=()):
    generator = torch.Generator().manual_seed(5)
    mixing = torch.randn(k, k, generator=generator) * torch.arange(1, k + 1).float().rsqrt()[:, None]
    x = torch.randn(count, k, generator=generator) @ mixing + 0.3 * torch.randn(count, k, generator=generator)
    for number, channel in enumerate(outliers):
        x[:, channel] *= 100 * (number + 1)
    return x


def compensation_of(statistics):
    compensation = statistics.compensation()
    assert compensation is not None  # so many inputs were seen
    return compensation


@pytest.mark.parametrize("outliers", [(), (5, 77, 130)])
@pytest.mark.parametrize("tokens", [60, 500, 4000])
def test_compensation_pays_on_inputs_that_it_was_not_fitted_on(tokens, outliers):
    weight = random_matrix("heavy", 64, 256)
    x = correlated_inputs(tokens + 1000, 256, outliers)
    statistics = InputStatistics(256)
    statistics.add(x[:tokens])
    compensated = outputs_error(compensation_of(statistics).round(weight), weight, x[tokens:])
    assert compensated < outputs_error(round_searched(weight), weight, x[tokens:])
    assert compensated < 0.8 * outputs_error(round_plain(weight), weight, x[tokens:])


def test_without_correlations_compensation_is_the_weighted_search():
    weight = random_matrix("Gaussian", 32, 128)
    sizes = torch.rand(128) + 0.1
    compensated = Compensation(torch.diag(sizes), shrinkage=1.0).round(weight)
    searched = round_searched(weight, sizes)
    assert torch.equal(compensated.scales, searched.scales)
    assert torch.equal(compensated.codes, searched.codes)


def test_rows_are_compensated_independently():
    weight = random_matrix("Gaussian", 40, 128)
    x = correlated_inputs(300, 128)
    compensation = Compensation(x.t() @ x, shrinkage_for(300, 128))
    whole, part = compensation.round(weight), compensation.round(weight[16:23])
    assert torch.equal(whole.codes[16:23], part.codes)
    assert torch.equal(whole.scales[16:23], part.scales)


@pytest.mark.parametrize("tokens", [0, 1, 15])
def test_an_expert_with_few_inputs_is_rounded_as_without_calibration(tokens):
    weight, statistics = random_matrix("heavy", 32, 128), InputStatistics(128)
    statistics.add(correlated_inputs(tokens, 128, outliers=(3,)))
    plain, found = quantize_matrix("int4", weight), quantize_matrix("int4", weight, statistics)
    assert all(torch.equal(plain[name], found[name]) for name in plain)


@pytest.mark.parametrize("weights", ["Gaussian", "heavy"])
@pytest.mark.parametrize("tokens", [16, 40, 128, 1000])
def test_compensation_takes_no_row_far_from_its_weights(weights, tokens):
    """Even with inputs of which some channels are 10,000 times as large as others, or never active."""
    weight, x = random_matrix(weights, 64, 128), correlated_inputs(tokens, 128, outliers=(1, 2, 70))
    x[:, 5:60] *= 1e-4
    x[:, 90:] = 0
    statistics = InputStatistics(128)
    statistics.add(x)
    compensation = compensation_of(statistics)
    plain, found = round_searched(weight).dequantize(), compensation.round(weight).dequantize()
    deviation = ((rounded - weight).norm(dim=1) / weight.norm(dim=1) for rounded in (found, plain))
    assert all(one <= max(MOST_DEVIATION, least) for one, least in zip(*deviation, strict=True))
    without_bound = compensation._round_all(weight).dequantize()
    if (without_bound - weight).norm() > MOST_DEVIATION * weight.norm():
        assert not torch.equal(without_bound, found)


@pytest.mark.parametrize("tokens", [20, 60, 500])
def test_inputs_unlike_those_of_the_calibration_cost_little(tokens):
    """Calibrated on inputs that leave half of the channels nearly alone, and read with all of them."""
    weight, x = random_matrix("heavy", 64, 128), correlated_inputs(tokens + 1000, 128)
    fit = x[:tokens].clone()
    fit[:, ::2] *= 1e-3
    statistics = InputStatistics(128)
    statistics.add(fit)
    compensated = outputs_error(compensation_of(statistics).round(weight), weight, x[tokens:])
    assert compensated < 2.5 * outputs_error(round_searched(weight), weight, x[tokens:])


def test_a_channel_that_was_never_active_is_no_obstacle():
    weight, x = random_matrix("Gaussian", 16, 128), correlated_inputs(200, 128)
    x[:, 64:70] = 0
    statistics = InputStatistics(128)
    statistics.add(x)
    assert relative(compensation_of(statistics).round(weight).dequantize(), weight) < 0.2


@pytest.mark.parametrize("kind", ["int4", "int8"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_not_finite_are_refused(kind, bad):
    weight = torch.randn(32, 128)
    weight[20, 70] = bad
    with pytest.raises(ValueError, match="not finite"):
        quantize_matrix(kind, weight)


def test_a_scale_beyond_float16_is_refused():
    with pytest.raises(ValueError, match="65,504"):
        quantize_matrix("int4", torch.full((1, 64), 1e7))


@pytest.mark.parametrize("kind", ["int4", "int8", "nf4"])
def test_zeros_and_tiny_weights_stay_finite(kind):
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    weight = torch.zeros(17, 128)
    weight[1] = 1e-12
    weight[2, 5] = 1e-4
    matrix = packed_matrix(kind, quantize_matrix(kind, weight), (17, 128))
    assert (matrix.dequantize() - weight).abs().max() < 1e-6
