"""Ways to round matrices to 4 bits, judged by the error of their outputs: the first table of docs/quantization.md.

    python -m benchmarks.rounding [--rows 512] [--tokens 1000] [--seeds 3]

Random matrices with K = 2048 and inputs like those of real layers: correlated channels of very different size, and in
half of the cases planted outlier channels, some hundred times as large as the rest. The inputs that the error is
measured on are others than those that the rounding was fitted on. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from quant.compensation import Compensation, shrinkage_for
from quant.formats import GROUP
from quant.rounding import round_plain, round_searched, to_float16

K = 2048
_TEST_TOKENS = 1024


@dataclass(frozen=True)
class Case:
    """A matrix (N, K), inputs to fit on (n, K) and inputs to test on."""

    name: str
    weight: Tensor
    fit: Tensor
    test: Tensor

    @property
    def sizes(self) -> Tensor:
        """Mean square of each input to fit on."""
        return self.fit.square().mean(dim=0)

    @property
    def gram(self) -> Tensor:
        """Mean of x x^T over the inputs to fit on."""
        return self.fit.t() @ self.fit / len(self.fit)


def cases(rows: int, tokens: int, seed: int) -> Iterator[Case]:
    """Gaussian and heavy-tailed weights, each with and without outlier channels."""
    generator = torch.Generator().manual_seed(seed)
    for weights, has_outliers in (("Gaussian", False), ("Gaussian", True), ("heavy", False), ("heavy", True)):
        weight = torch.randn(rows, K, generator=generator)
        if weights == "heavy":  # Student's t with 4 degrees of freedom
            weight *= (4 / torch.distributions.Chi2(4.0).sample((rows, K))).sqrt()
        x = _inputs(tokens + _TEST_TOKENS, generator, has_outliers)
        name = f"{weights} weights{', outlier channels' if has_outliers else ''}"
        yield Case(name, weight / K**0.5, x[:tokens], x[tokens:])


def _inputs(count: int, generator: torch.Generator, has_outliers: bool) -> Tensor:
    """(count, K): directions whose variances fall as 1/i, channels of log-normal size."""
    spectrum = torch.arange(1, K + 1).float().rsqrt()
    mixing = torch.linalg.qr(torch.randn(K, K, generator=generator))[0]
    x = (torch.randn(count, K, generator=generator) * spectrum) @ mixing
    x += 0.3 * x.std() * torch.randn(count, K, generator=generator)
    x *= torch.randn(K, generator=generator).mul(0.5).exp()
    if has_outliers:
        x[:, torch.randperm(K, generator=generator)[:6]] *= torch.tensor([50.0, 80.0, 100.0, 150.0, 200.0, 400.0])
    return x / x.std()


def output_error(case: Case, rounded: Tensor) -> float:
    """Root mean square over test inputs of |(Q - W) x| / |W x|."""
    exact = case.test @ case.weight.t()
    wrong = case.test @ rounded.t() - exact
    return float((wrong.square().sum(1) / exact.square().sum(1)).mean().sqrt())


Method = Callable[[Case], Tensor]


def methods() -> dict[str, tuple[float, Method]]:
    """Name to bits a weight and the dequantized result."""
    found: dict[str, tuple[float, Method]] = {}
    for group in (32, 64, 128):
        for name, (scale_bits, method) in _methods_of_group(group).items():
            found[f"{name}, group {group}"] = 4 + scale_bits / group, method
    for shrinkage in (0.01, 0.1, 0.3, 0.5, 0.7, 1.0):
        name = f"compensated, group 64, correlations shrunk by {shrinkage}"
        found[name] = 4.25, partial(compensated, group=GROUP, shrinkage=shrinkage)
    return found


def _methods_of_group(group: int) -> dict[str, tuple[int, Method]]:
    """Name to bits beside the codes of a group, and the dequantized result."""
    return {
        "to nearest, absmax/7": (16, lambda case: round_plain(case.weight, group).dequantize()),
        "scale searched": (16, lambda case: round_searched(case.weight, None, group).dequantize()),
        "scale searched, weighted": (16, lambda case: round_searched(case.weight, case.sizes, group).dequantize()),
        "**scale searched, errors compensated**": (16, lambda case: compensated(case, group)),
        "asymmetric, min to max": (32, lambda case: asymmetric(case.weight, group, (1.0,))),
        "asymmetric, range searched": (32, lambda case: asymmetric(case.weight, group)),
        "asymmetric, HQQ-style": (32, lambda case: half_quadratic(case.weight, group)),
    }


def compensated(case: Case, group: int, shrinkage: float | None = None) -> Tensor:
    shrinkage = shrinkage_for(len(case.fit), K) if shrinkage is None else shrinkage
    return Compensation(case.gram, shrinkage, group).round(case.weight).dequantize()


def asymmetric(weight: Tensor, group: int, shares: tuple[float, ...] = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)) -> Tensor:
    """Codes 0..15 between a float16 lowest value and that plus 15 float16 steps; of several ranges the best."""
    groups = weight.unflatten(1, (-1, group))
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    best, error = torch.zeros_like(groups), torch.full_like(low, torch.inf)
    for share in shares:
        scale = to_float16(share * (high - low) / 15).float().clamp_min(1e-8)
        zero = to_float16((1 - share) * (high + low) / 2 + share * low).float()
        rounded = ((groups - zero) / scale).round().clamp(0, 15) * scale + zero
        now = (rounded - groups).square().sum(-1, keepdim=True)
        best, error = torch.where(now < error, rounded, best), torch.minimum(now, error)
    return best.flatten(1)


def half_quadratic(weight: Tensor, group: int, power: float = 0.7, beta: float = 10.0, steps: int = 20) -> Tensor:
    """Zero point by half-quadratic splitting: a robust norm (p < 1) of the error is minimised (HQQ)."""
    groups = weight.unflatten(1, (-1, group))
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    inverse = 15 / (high - low).clamp_min(1e-8)
    zero = -low * inverse
    for _ in range(steps):
        codes = (groups * inverse + zero).round().clamp(0, 15)
        error = groups - (codes - zero) / inverse
        magnitude = error.abs()
        shrunk = error.sign() * (magnitude - magnitude.clamp_min(1e-8).pow(power - 1) / beta).clamp_min(0)
        zero = (codes - (groups - shrunk) * inverse).mean(-1, keepdim=True)
        beta *= 1.01
    return (((groups * inverse + zero).round().clamp(0, 15) - zero) / inverse).flatten(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument(
        "--tokens", type=int, default=1000, help="to fit on; an expert's share of 16,384 is about 1,000"
    )
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    errors: dict[str, dict[str, list[float]]] = {}
    for seed in range(arguments.seeds):
        for case in cases(arguments.rows, arguments.tokens, seed):
            for name, (_, method) in methods().items():
                error = output_error(case, method(case))
                errors.setdefault(name, {}).setdefault(case.name, []).append(error)
    means = {name: {case: sum(e) / len(e) for case, e in found.items()} for name, found in errors.items()}
    names = list(next(iter(means.values())))
    print("| rounding | bits | " + " | ".join(names) + " |\n|---|--:|" + "--:|" * len(names))
    for name, (bits, _) in methods().items():
        print(f"| {name} | {bits:g} | " + " | ".join(f"{100 * means[name][case]:.2f} %" for case in names) + " |")
    print(json.dumps({"results": means, "tokens": arguments.tokens, "rows": arguments.rows, "seeds": arguments.seeds}))


if __name__ == "__main__":
    main()
