"""Which formats of weights people may ask for, and what is said of them: chosen from the table in `quant.formats`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from quant.formats import FORMATS, Format

FLOAT: Literal["bf16"] = "bf16"  # what matrices are called that are not packed
DEFAULT_EXPERTS: Format = "int4"
DEFAULT_DENSE: Format = "int8"

# In the order in which they are offered for the experts; the others are only read.
EXPERT_FORMATS: tuple[Format, ...] = tuple(name for name, one in FORMATS.items() if one.quantizer is not None)
FAST_FORMATS: tuple[Format, ...] = tuple(name for name, one in FORMATS.items() if one.has_fast_products)
# The largest first, which is taken for the closest to the weights as published.
LARGEST_FIRST: tuple[Format, ...] = tuple(sorted(FORMATS, key=lambda name: -FORMATS[name].bits))
# For attention, embedding and head.
DENSE_FORMATS: tuple[Format, ...] = tuple(
    name for name in LARGEST_FIRST if name in EXPERT_FORMATS and FORMATS[name].is_dense_too
)

if TYPE_CHECKING:
    ExpertFormat = Format
    FastFormat = Format
    DenseFormat = Format | Literal["bf16"]
    AnyFormat = Format | Literal["bf16"]
else:  # what a command line offers, as a type
    ExpertFormat = Literal[EXPERT_FORMATS]
    FastFormat = Literal[FAST_FORMATS]
    DenseFormat = Literal[DENSE_FORMATS + (FLOAT,)]  # noqa: RUF005  (mypy reads no star there)
    AnyFormat = Literal[tuple(FORMATS) + (FLOAT,)]  # noqa: RUF005


def bits_of(name: Format) -> float:
    """Stored bits of one weight, scales included."""
    return FORMATS[name].bits


def is_fitted(name: DenseFormat | None) -> bool:
    """Whether calibration has anything to say on it; most formats have one way of rounding."""
    return name is not None and name != FLOAT and FORMATS[name].is_fitted
