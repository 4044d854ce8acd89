"""Tokens drawn by kernels: the ids of the twin, the law of the definition, and the answers of `draw_sorted`."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from quant.kernels.triton.launch import IS_INTERPRETED, run_all
from tests.gpu.triton.draw_twin import UNSURE, twin_ids
from tests.gpu.triton.place import PLACE
from tests.gpu.triton.sanitizer import sanitized
from zaya_core.errors import CheckpointError, UsageError
from zaya_core.kernels.triton.sampling import adjust, draw, normalise
from zaya_core.kernels.triton.sampling import rows as drawing
from zaya_core.kernels.triton.sampling.buffers import DrawBuffers
from zaya_core.kernels.triton.sampling.requests import request_of, requests_of
from zaya_core.kernels.triton.sampling.rows import TritonSampling
from zaya_core.sampling.draw import Drawn, RowDraw, adjusted
from zaya_core.sampling.params import RandomKey, SamplingParams
from zaya_core.sampling.sorted import draw_sorted

# What numpy says of sums with NaN and infinity.
pytestmark = [pytest.mark.filterwarnings(f"ignore:{what}") for what in ("All-NaN", "invalid value", "overflow")]
GREEDY = SamplingParams(temperature=0)
NOT_CUT: dict[str, Any] = {"top_p": 1.0, "min_p": 0.0}


def drawn_of(logits, rows, **sizes):
    return TritonSampling(**sizes).draw(logits.to(PLACE), rows)


def ids_of(drawn):
    return [one.token_id for one in drawn]


# ----------------------------------------------------------------------------------------- the twin


def kinds_of_logits(size):
    """By name: rows that are each hard in a way of their own."""
    spread = 3 * torch.randn(size)
    with_gaps = spread.clone()
    with_gaps[torch.arange(size) % 3 > 0] = -math.inf
    only = torch.full((size,), -math.inf)
    only[size // 2] = -7.0
    return {
        "spread": spread,
        "ties": spread.round(),
        "with gaps": with_gaps,
        "only one": only,
        "equal": torch.full((size,), 2.5),
        "nearly equal": -1e-4 * ((torch.arange(size) * 7 + 3) % size).float(),
        "large": 1e30 * torch.randn(size),
    }


CUTS: list[dict[str, Any]] = [
    {},
    NOT_CUT,
    {"top_p": 0.5, "min_p": 0.0},
    {"top_p": 1e-50, "min_p": 0.0},
    {"top_p": 1.0, "top_k": 20},
    {"top_p": 1.0, "min_p": 0.3},
    {"top_p": 0.9, "top_k": 5, "min_p": 0.02},
]
TEMPERATURES = [0.01, 0.6, 1.0, 4.0, 1e6]


def grid_of(sizes, every=1):
    """(logits, rows) for each vocabulary: kinds of logits at all temperatures and cuts, or every so many of them."""
    for size in sizes:
        both = itertools.product(kinds_of_logits(size).values(), TEMPERATURES, CUTS)
        chosen = list(itertools.islice(both, size % every, None, every))
        params = [SamplingParams(temperature=temperature, **cuts) for _, temperature, cuts in chosen]
        rows = [RowDraw(one, RandomKey(size, place), 7) for place, one in enumerate(params)]
        yield torch.stack([logits for logits, _, _ in chosen]), rows


def assert_as_twin(logits, rows, chunk, rounds=8):
    expected, closest = twin_ids(logits, rows, chunk, rounds)
    found = ids_of(drawn_of(logits, rows, chunk=chunk, rounds=rounds))
    is_sure = closest > UNSURE
    assert is_sure.float().mean() > 0.9
    assert [
        (place, rows[place].params, one, other)
        for place, (one, other) in enumerate(zip(found, expected, strict=True))
        if is_sure[place] and other >= 0 and one != other
    ] == []
    return expected


def test_ids_are_those_of_the_twin_whatever_is_cut():
    for logits, rows in grid_of([77], every=3):
        assert_as_twin(logits, rows, chunk=32)


@pytest.mark.parametrize("size", [1, 5, 16, 17, 33])
def test_ids_are_those_of_the_twin_at_sizes_around_those_of_chunks(size):
    for logits, rows in grid_of([size], every=17):
        assert_as_twin(logits, rows, chunk=16)


@pytest.mark.long
@pytest.mark.parametrize("size", [1, 2, 31, 64, 65, 301, 2049])
def test_ids_are_those_of_the_twin_in_the_whole_grid(size):
    for logits, rows in grid_of([size]):
        assert_as_twin(logits, rows, chunk=max(16, 2 ** (size.bit_length() - 3)))


def test_ids_are_those_of_the_twin_in_a_large_vocabulary():
    logits = 5 * torch.randn(3, 50_021)
    assert_as_twin(logits, [RowDraw(SamplingParams(min_p=0.0), RandomKey(place), 1) for place in range(3)], chunk=1024)


# ----------------------------------------------------------------------------------------- the law


def frequencies(logits, params, count, **sizes):
    rows = [RowDraw(params, RandomKey(5), step) for step in range(count)]
    return Counter(ids_of(drawn_of(logits.expand(count, -1), rows, **sizes)))


def assert_law(found, expected):
    """Chi-square, five deviations; nothing that is not kept. expected: id -> probability."""
    count = found.total()
    assert set(found) <= set(expected)
    chi_square = sum((found[id_] - count * share) ** 2 / (count * share) for id_, share in expected.items())
    freedom = len(expected) - 1
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom)


FEW = torch.tensor([0.1, 1.0, 1.0, -1.0, 0.9, 0.0, 1.0, -9.0, 0.5, -math.inf])
KEPT: dict[str, tuple[dict[str, Any], list[int]]] = {  # of FEW, in order 1 2 6 4 8 0 5 3 7
    "top-p": ({"top_p": 0.6, "min_p": 0.0}, [1, 2, 6, 4]),
    "top-k": ({"top_p": 1.0, "min_p": 0.0, "top_k": 2}, [1, 2]),
    "min-p": ({"top_p": 1.0, "min_p": 0.5}, [1, 2, 6, 4, 8]),
    "nothing cut": ({"top_p": 1.0, "min_p": 0.0, "temperature": 2.0}, [1, 2, 6, 4, 8, 0, 5, 3, 7]),
    "all cuts": ({"top_p": 0.72, "min_p": 0.3, "top_k": 4}, [1, 2, 6, 4]),
}


@pytest.mark.parametrize(
    ("name", "draws"),
    [("all cuts", 120), ("min-p", 60), *(pytest.param(name, 1000, marks=pytest.mark.long) for name in KEPT)],
)
def test_frequencies_are_those_of_the_definition(name, draws):
    cuts, kept = KEPT[name]
    params = SamplingParams(**cuts)
    p = torch.softmax(FEW.double() / params.temperature, 0)
    expected = {id_: float(p[id_] / p[kept].sum()) for id_ in kept}
    assert_law(frequencies(FEW, params, draws, chunk=16), expected)


def test_rows_that_two_rounds_do_not_finish_take_more_and_then_the_sorted_way(monkeypatch):
    """And keep to the law: a number that a round has refused is not drawn by once more."""
    sorted_rows = []

    def noted(logits, rows, number):
        sorted_rows.append((len(rows), number))
        return draw_sorted(logits, rows, number)

    monkeypatch.setattr(drawing, "draw_sorted", noted)
    params = SamplingParams(top_k=3, top_p=1.0, min_p=0.0)
    found = frequencies(torch.zeros(16), params, 100, chunk=16, rounds=3)
    assert_law(found, dict.fromkeys(range(3), 1 / 3))
    ((left, number),) = sorted_rows
    assert 5 < left < 80
    assert number == 3


# --------------------------------------------------------------------- penalty, bias, mask; log-probabilities


def mixed_rows(size):
    """Rows that differ in all that a row may ask for."""
    allowed = torch.arange(size) % 3 == 0
    seen = torch.arange(0, size, 2)
    penal = SamplingParams(repetition_penalty=1.7)
    bias = {size - 1: 2.0, 0: -1.5, size // 2: 3.0}
    return [
        RowDraw(GREEDY, RandomKey(0), 0),
        RowDraw(penal, RandomKey(1), 2, seen=seen),
        RowDraw(SamplingParams(), RandomKey(2), 2, forced=size - 1, top_logprobs=4, bias=bias, allowed=allowed),
        RowDraw(SamplingParams(), RandomKey(3), 2, bias={size // 2: 40.0}, top_logprobs=2),
        RowDraw(SamplingParams(), RandomKey(4), 2, allowed=allowed),
        RowDraw(penal, RandomKey(5), 2, seen=seen, bias=bias, allowed=~allowed),
        RowDraw(replace(GREEDY, repetition_penalty=9.0), RandomKey(6), 2, seen=seen[:2], bias={1: 25.0}),
        RowDraw(SamplingParams(top_k=3, temperature=0.3), RandomKey(7), 3),
    ]


@pytest.mark.parametrize("size", [5, 64, 77])
def test_logits_are_penalised_biased_and_masked_as_adjusted_does(size):
    logits, rows = 3 * torch.randn(8, size).to(PLACE), mixed_rows(size)
    rows += [RowDraw(rows[1].params, RandomKey(0), 0, seen=torch.randperm(size))]
    logits = torch.cat([logits, logits[:1]])
    buffers = DrawBuffers(len(rows), size, PLACE, chunk=16)
    with sanitized():
        changed, launches = adjust.adjust(logits, [adjust.change_of(row, size) for row in rows], buffers)
        run_all(launches, PLACE)
    expected = torch.stack([adjusted(own, row) for own, row in zip(logits, rows, strict=True)])
    torch.testing.assert_close(changed[: len(rows)], expected, rtol=0 if IS_INTERPRETED else 1e-6, atol=0)


def test_many_seen_ids_are_penalised_by_several_programs():
    size = 700
    row = RowDraw(SamplingParams(repetition_penalty=1.3), RandomKey(0), 0, seen=torch.randperm(size)[:600], bias={3: 1})
    logits, buffers = torch.randn(1, size).to(PLACE), DrawBuffers(1, size, PLACE)
    changed, launches = adjust.adjust(logits, [adjust.change_of(row, size)], buffers)
    assert launches[1].grid == (3, 1)
    run_all(launches, PLACE)
    torch.testing.assert_close(changed[:1], adjusted(logits[0], row)[None], rtol=1e-6, atol=0)


def test_mixed_rows_are_drawn_alike_together_and_alone_and_nothing_leaves_its_bounds():
    size = 77
    logits, rows = 3 * torch.randn(8, size), mixed_rows(size)
    with sanitized():
        together = drawn_of(logits, rows, chunk=16)
    alone = [drawn_of(own[None], [row], chunk=16)[0] for own, row in zip(logits, rows, strict=True)]
    assert together == alone
    chosen_from = torch.stack([adjusted(own, row) for own, row in zip(logits, rows, strict=True)])
    expected, _ = twin_ids(chosen_from, rows, 16)
    expected[2] = size - 1
    assert ids_of(together) == expected
    exact = torch.log_softmax(logits.double(), 1)
    for row, one in enumerate(together):
        assert one.logprob == pytest.approx(float(exact[row, one.token_id]), abs=1e-5)
        assert [id_ for id_, _ in one.top_logprobs] == exact[row].topk(rows[row].top_logprobs).indices.tolist()
        assert dict(one.top_logprobs).get(one.token_id, one.logprob) == one.logprob


def test_buffers_are_made_once_and_what_they_held_does_not_matter():
    drawing, logits = TritonSampling(chunk=16), torch.randn(8, 77).to(PLACE)
    rows = mixed_rows(77)
    first = drawing.draw(logits, rows)
    kept = drawing._buffers
    drawing.draw(torch.full_like(logits, math.nan), rows)
    drawing.draw(logits[:3], rows[:3])
    assert drawing.draw(logits, rows) == first
    assert drawing._buffers is kept
    assert len(drawing.draw(logits.repeat(3, 1), rows[:1] * 24)) == 24
    assert drawing._buffers is not kept


def test_two_launches_and_two_for_each_round_and_one_read(monkeypatch):
    """Each list of launches ends in one read."""
    launched = []

    def counted(launches, device):
        launched.append(len(launches))
        run_all(launches, device)

    monkeypatch.setattr(drawing, "run_all", counted)
    logits = torch.randn(3, 40)
    greedy, sampled = (RowDraw(params, RandomKey(0), 0, top_logprobs=2) for params in (GREEDY, SamplingParams()))
    drawn_of(logits, [greedy, replace(greedy, forced=3), greedy])
    drawn_of(logits, [greedy, replace(sampled, params=SamplingParams(**NOT_CUT)), greedy])
    drawn_of(logits, [greedy, replace(greedy, bias={3: 1.0}), greedy])
    assert launched == [2, 6, 4]


# ----------------------------------------------------------------------------------------- what is no number, or wrong


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [slice(0, 1), slice(35, 36), slice(0, 77)], ids=["first", "last", "all"])
def test_logits_that_are_no_numbers_end_their_own_row_only(bad, at):
    logits = torch.randn(3, 77)
    logits[1, at] = bad
    rows = [RowDraw(SamplingParams(), RandomKey(place), 0) for place in range(3)]
    for asked in (rows, [replace(row, params=GREEDY) for row in rows], [replace(row, forced=5) for row in rows]):
        drawn = drawn_of(logits, asked, chunk=16)
        assert isinstance(drawn[0], Drawn) and isinstance(drawn[2], Drawn)
        if bad == -math.inf and at != slice(0, 77):
            assert isinstance(drawn[1], Drawn)
        else:
            assert isinstance(drawn[1], CheckpointError)


def test_likeliest_and_normaliser_are_those_of_torch():
    logits = (5 * torch.randn(5, 203)).round().clamp(max=9)
    logits[1, ::3] = logits[2, 16:48] = logits[3, :200] = -math.inf
    logits[4] = 3e38 * torch.linspace(1, -1, 203)
    drawn = drawn_of(logits, [RowDraw(GREEDY, RandomKey(0), 0)] * 5, chunk=16)
    assert ids_of(drawn) == logits.argmax(1).tolist()
    assert [one.logprob for one in drawn] == pytest.approx(logits.double().log_softmax(1).amax(1).tolist(), abs=1e-6)


SIZE = 40
WRONG: dict[str, dict[str, Any]] = {
    "a forced id that is none": {"forced": SIZE},
    "a forced id that is no number": {"forced": 1.0},
    "a seen id that is none": {"seen": torch.tensor([3, SIZE])},
    "seen ids that are no row": {"seen": torch.tensor([[3]])},
    "seen ids that are no ids": {"seen": torch.tensor([3.0])},
    "a bias for no id": {"bias": {-1: 1.0}},
    "a bias that is no number": {"bias": {1: "much"}},
    "a mask of another length": {"allowed": torch.ones(SIZE - 1, dtype=torch.bool)},
    "a mask that is none": {"allowed": torch.ones(SIZE)},
    "a mask of nothing": {"allowed": torch.zeros(SIZE, dtype=torch.bool)},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_row_that_asks_for_what_is_not_there_ends_alone_and_as_draw_sorted_says(what):
    logits, sampled = torch.randn(3, SIZE).to(PLACE), RowDraw(SamplingParams(), RandomKey(1), 0)
    rows = [replace(sampled, **WRONG[what]), sampled, replace(sampled, params=GREEDY)]
    with sanitized():
        error, *drawn = drawn_of(logits, rows)
    expected, *_ = draw_sorted(logits, rows)
    assert (type(error), str(error)) == (type(expected), str(expected))
    assert drawn == drawn_of(logits[1:], rows[1:])


def test_a_step_that_is_none_ends_its_own_row_only():
    rows = [RowDraw(SamplingParams(), RandomKey(1), step) for step in (-1, 1)]
    error, drawn = drawn_of(torch.randn(2, SIZE), rows)
    assert isinstance(error, UsageError) and isinstance(drawn, Drawn)


@pytest.mark.parametrize(
    "logits",
    [torch.zeros(2, 3).half(), torch.zeros(2, 3).double(), torch.zeros(2, 0), torch.zeros(2, 3, 4), torch.zeros(2)],
    ids=str,
)
def test_logits_of_another_form_reach_no_kernel(logits, monkeypatch):
    monkeypatch.setattr(drawing, "run_all", None)
    drawn = drawn_of(logits, [RowDraw(GREEDY, RandomKey(0), 0)] * 2)
    assert ["logits must be (V) float32" in str(one) for one in drawn] == [True, True]


def test_rows_and_logits_that_are_not_as_many_are_refused():
    with pytest.raises(ValueError):
        drawn_of(torch.zeros(2, 3), [RowDraw(GREEDY, RandomKey(0), 0)])
    assert drawn_of(torch.zeros(0, 3), []) == []


def test_logits_with_gaps_between_them_are_drawn_from_as_they_are():
    logits, rows = torch.randn(SIZE, 2).T, [RowDraw(SamplingParams(), RandomKey(place), 0) for place in range(2)]
    assert drawn_of(logits, rows) == drawn_of(logits.contiguous(), rows)


def test_host_functions_refuse_what_does_not_fit_the_buffers():
    buffers = DrawBuffers(2, SIZE, PLACE)
    logits = torch.zeros(2, SIZE, device=PLACE)
    requests = requests_of([request_of(RowDraw(GREEDY, RandomKey(0), 0), SIZE, 3)] * 2, buffers)
    wrong_logits = [logits[:, 1:], logits.double(), logits[0], logits[:0], logits.repeat(9, 1), logits.T]
    for make in (normalise.sum_chunks, draw.begin_drawing, partial(draw.draw_round, number=0)):
        for wrong in wrong_logits:
            with pytest.raises(ValueError, match="logits must be"):
                make(wrong, None, requests, buffers)
            with pytest.raises(ValueError, match="logits must be"):
                make(logits, wrong, requests, buffers)
        for wrong in (requests.float(), requests[1:], requests[:, :2]):
            with pytest.raises(ValueError, match="requests must be"):
                make(logits, None, wrong, buffers)
        with pytest.raises(ValueError, match="cannot stand for"):
            make(logits, logits[:1], requests, buffers)
    for number in (-1, 8):
        with pytest.raises(ValueError, match="from 0 to 7"):
            draw.draw_round(logits, None, requests, buffers, number)
    with pytest.raises(ValueError, match="need as many changes"):
        adjust.adjust(logits, [None], buffers)
