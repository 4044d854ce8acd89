"""Compare a quantized folder with its source: its matrices on a sample, what is not rounded as a whole.

A matrix is held against what rounding to its format can do: int8 weight by weight, others row by row, and as a
whole also for a common factor, which a row's error hides. Compensation moves weights further than plain rounding does,
but no row beyond a bound that it keeps itself (`quant.compensation`), so that the folder alone says enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from quant.assemble import packed_matrix, quantize_matrix
from quant.compensation import MOST_DEVIATION
from quant.formats import FORMATS, Format
from zaya_core.checkpoint.checkpoint import Checkpoint, open_checkpoint
from zaya_core.checkpoint.folder import ModelFolder
from zaya_core.errors import CheckpointError, UsageError

_LARGEST_ERROR = 1.1 * MOST_DEVIATION  # of a row: beyond it, rounding it anew shows whether it can be rounded at all
_LARGEST_STEP = 0.51  # of a row's scale where it has one: half, and what float32 makes of it
_AS_GOOD = 1.02
_LARGEST_BIAS = 0.02  # of a whole matrix; rounding to the best scale makes weights smaller by its error's square
_WHAT_TO_DO = "the folder was made from another model or is damaged; delete it and quantize again"
_EXPERTS = 2
_ROWS = 4096


@dataclass(frozen=True)
class MatrixError:
    """How far one matrix is from its source: |Q - W| / |W| in the Euclidean norm, and the largest single difference."""

    name: str
    kind: Format
    relative: float
    largest: float
    largest_weight: float


def verify(source: Path | ModelFolder, quantized: Path | ModelFolder) -> Iterator[MatrixError]:
    """Errors of some matrices of the first, middle and last layer and of embedding and head.

    Raises the errors of either folder; CheckpointError where a matrix is further off than rounding explains, what is
    not rounded differs, or a scale is not finite; UsageError for a folder that `zaya quantize` did not make.
    """
    before, made = open_checkpoint(source), ModelFolder.of(quantized)
    config = made.config
    if config.quantization is None or not config.quantization.is_ours:
        raise UsageError(f"{made} was not made by `zaya quantize`: there is nothing to compare.")
    after = open_checkpoint(made)
    _expect_same_shapes(before, after)
    last = config.num_hidden_layers - 1
    layers = {f"model.layers.{layer}." for layer in (0, last // 2, last)}
    for name in after.parameters:
        if name not in after.packed:
            _expect_equal(name, before, after)
            continue
        _expect_finite_scales(name, after)
        if name.startswith(tuple(layers)) or not name.startswith("model.layers."):
            yield from _compare(name, before, after)


def _expect_same_shapes(before: Checkpoint, after: Checkpoint) -> None:
    shapes = [{one.name: one.shape for one in checkpoint.parameters.values()} for checkpoint in (before, after)]
    if shapes[0] != shapes[1]:
        raise CheckpointError(f"{after.folder} has other tensors than {before.folder}: it was made from another model.")


def _expect_equal(name: str, before: Checkpoint, after: Checkpoint) -> None:
    kept = after.tensor(name)
    if not torch.equal(kept, before.tensor(name)) or not torch.isfinite(kept).all():
        raise CheckpointError(f"{name} is not rounded, but differs from its source: {_WHAT_TO_DO}.")


def _expect_finite_scales(name: str, after: Checkpoint) -> None:
    if not torch.isfinite(after.packed_tensors(name)["scales"].float()).all():
        raise CheckpointError(f"{name} has scales that are not finite: {_WHAT_TO_DO}.")


def _compare(name: str, before: Checkpoint, after: Checkpoint) -> Iterator[MatrixError]:
    packed, tensors = after.packed[name], after.packed_tensors(name)
    *_, n, k = packed.shape
    if len(packed.shape) == 2:
        matrix = packed_matrix(packed.kind, tensors, (n, k))
        yield _error(name, packed.kind, before.tensor(name)[:_ROWS], matrix.rows(torch.arange(min(n, _ROWS))))
        return
    for expert in sorted({0, packed.shape[0] - 1})[:_EXPERTS]:
        matrix = packed_matrix(packed.kind, {suffix: one[expert] for suffix, one in tensors.items()}, (n, k))
        yield _error(f"{name}[{expert}]", packed.kind, before.experts(name)[expert], matrix.dequantize())


def _error(name: str, kind: Format, weight: Tensor, quantized: Tensor) -> MatrixError:
    exact = weight.float()
    difference = quantized - exact
    relative = _relative(difference, exact)
    wrong = _wrong_rows(kind, exact, difference)
    if len(wrong):
        worst = float(_relative_rows(difference, exact)[wrong].max())
        raise CheckpointError(
            f"{name} differs from its source by {relative:.1%}, and {len(wrong):,} of its rows (from row {wrong[0]}) "
            f"by up to {worst:.1%}, more than rounding to {kind} explains: {_WHAT_TO_DO}."
        )
    _expect_no_factor(name, kind, exact, quantized, relative)
    return MatrixError(name, kind, relative, float(difference.abs().max()), float(exact.abs().max()))


def _wrong_rows(kind: Format, exact: Tensor, difference: Tensor) -> list[int]:
    """Rows that rounding cannot have made."""
    levels = FORMATS[kind].levels
    if levels is not None:
        step = exact.abs().amax(dim=1, keepdim=True) / levels
        is_wrong = ~(difference.abs() <= _LARGEST_STEP * step).all(dim=1)
    else:
        is_wrong = ~(_relative_rows(difference, exact) <= _LARGEST_ERROR)
    suspects: list[int] = is_wrong.nonzero()[:, 0].tolist()
    if levels is not None or not suspects:
        return suspects
    anew = packed_matrix(kind, quantize_matrix(kind, exact[suspects]), (len(suspects), exact.shape[1])).dequantize()
    possible = _relative_rows(anew - exact[suspects], exact[suspects])
    found = _relative_rows(difference[suspects], exact[suspects])
    return [row for row, one, best in zip(suspects, found, possible, strict=True) if not one <= _AS_GOOD * best]


def _expect_no_factor(name: str, kind: Format, exact: Tensor, quantized: Tensor, relative: float) -> None:
    size = float(exact.square().sum(dtype=torch.float64))
    factor = float((quantized * exact).sum(dtype=torch.float64)) / size if size else 1.0
    if not abs(factor - 1) <= _LARGEST_BIAS + 2 * relative**2:
        raise CheckpointError(
            f"{name} is {factor:.3f} times its source, which rounding to {kind} does not explain: {_WHAT_TO_DO}."
        )


def _relative(difference: Tensor, exact: Tensor) -> float:
    return float(difference.norm() / exact.norm().clamp_min(1e-30))


def _relative_rows(difference: Tensor, exact: Tensor) -> Tensor:
    return difference.norm(dim=1) / exact.norm(dim=1).clamp_min(1e-30)
