"""What people are offered of the table of formats."""

from __future__ import annotations

from zaya_core.config.weight_formats import DENSE_FORMATS, EXPERT_FORMATS, FAST_FORMATS, LARGEST_FIRST


def test_the_formats_of_today_are_offered_in_their_order() -> None:
    known = ("int4", "int8", "nf4", "fp8", "mxfp4")
    for offered, expected in (
        (EXPERT_FORMATS, ["int4", "int8", "nf4"]),
        (FAST_FORMATS, ["int4", "int8"]),
        (DENSE_FORMATS, ["int8", "int4"]),
        (LARGEST_FIRST, ["int8", "fp8", "nf4", "int4", "mxfp4"]),
    ):
        assert [name for name in offered if name in known] == expected
