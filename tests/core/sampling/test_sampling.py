"""Tokens are drawn by the definition in `sampling/draw.py`, written out here once more in the plain, slow way."""

from __future__ import annotations

import math
from collections import Counter
from importlib.util import find_spec

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quant.kernels.resolve import cpu_products
from tests.core.sampling.row import SampledRow
from tests.gpu.triton.draw_twin import twin_ids
from zaya_core.errors import CheckpointError, UsageError
from zaya_core.kernels.sampling import NativeSampling
from zaya_core.sampling.draw import Drawn, RowDraw, Sampling, no_numbers
from zaya_core.sampling.logits import expect_logits, largest, penalise_repetition
from zaya_core.sampling.params import RandomKey, SamplingParams
from zaya_core.sampling.reference import ReferenceSampling
from zaya_core.sampling.sorted import draw_sorted


class CardSampling(ReferenceSampling):
    """Rows one by one, as a card draws them together: `draw_all` as `draw_sorted`."""

    def __init__(self, draw_all):
        self.draw_all = draw_all

    def draw(self, logits, params, key, step):
        expect_logits(logits)
        drawn = self.draw_all(logits[None], [RowDraw(params, key, step)])[0]
        return None if isinstance(drawn, Exception) else drawn.token_id


class KernelSampling(CardSampling):
    """By the kernels for cards, in the interpreter or on a card."""

    def normalise(self, logits):
        expect_logits(logits)
        drawn = self.draw_all(logits[None], [RowDraw(SamplingParams(temperature=0), RandomKey(0), 0)])[0]
        if isinstance(drawn, Exception):
            return math.nan, 0
        return float(logits[drawn.token_id]) - drawn.logprob, drawn.token_id


def draw_as_twin(logits, rows):
    """By the twin of the kernels for cards, with as many rounds as they need."""
    if not bool(torch.logsumexp(logits, 1).isfinite().all()):
        return [no_numbers() for _ in rows]
    return [Drawn(id_, 0.0) for id_ in twin_ids(logits, rows, rounds=500)[0]]


WAYS: dict[str, Sampling] = {
    "torch": ReferenceSampling(),
    "sorted": CardSampling(draw_sorted),
    "twin": CardSampling(draw_as_twin),
}
MARKS = {"kernels": pytest.mark.long}
if find_spec("triton"):
    from tests.gpu.triton.place import PLACE
    from tests.gpu.triton.quick_calls import quicken_calls
    from zaya_core.kernels.triton.sampling.rows import TritonSampling

    _kernels = TritonSampling()
    WAYS["kernels"] = KernelSampling(lambda logits, rows: _kernels.draw(logits.to(PLACE), rows))
if (native := cpu_products().native) is not None:
    WAYS["native"] = NativeSampling(native)
_way = ["torch"]  # of the test that runs


@pytest.fixture(autouse=True, params=[pytest.param(way, marks=MARKS.get(way, ())) for way in WAYS])
def _sampling(request, monkeypatch):
    _way[0] = request.param
    if _way == ["kernels"]:
        quicken_calls(monkeypatch)


def normalise(logits):
    return WAYS[_way[0]].normalise(logits)


def draw(logits, params, key, step):
    return WAYS[_way[0]].draw(logits, params, key, step)


def drawn_at(steps, logits, params, key):
    """A token for each step; on a card as rows of one batch."""
    way = WAYS[_way[0]]
    if not isinstance(way, CardSampling):
        return [draw(logits, params, key, step) for step in steps]
    rows = [RowDraw(params, key, step) for step in steps]
    parts = [rows[start : start + 500] for start in range(0, len(rows), 500)]
    return [
        one.token_id
        for part in parts
        for one in way.draw_all(logits.expand(len(part), -1), part)
        if isinstance(one, Drawn)
    ]


def row_of(params, key, **more):
    return SampledRow(WAYS[_way[0]], params, key, **more)


SURE = 1e-5  # float32 weights may decide otherwise than float64 ones where a cut is closer than this


def plain_distribution(logits, params):
    """id -> probability: full softmax in float64, full sort (equal ones by id), three cuts, renormalise.

    Second: how close the nearest decision was, relative.
    """
    p = torch.softmax(logits.double() / params.temperature, dim=0).tolist()
    order = sorted(range(len(p)), key=lambda id_: (-p[id_], id_))
    kept, before, closest = {}, 0.0, 1.0
    for rank, id_ in enumerate(order):
        in_top_k = params.top_k == 0 or rank < params.top_k
        in_top_p = params.top_p == 1 or before < params.top_p
        in_min_p = p[id_] >= params.min_p * p[order[0]]
        if in_top_k and in_top_p and in_min_p and p[id_] > 0:
            kept[id_] = p[id_]
        if params.top_p < 1:
            closest = min(closest, abs(before / params.top_p - 1))
        if params.min_p:
            closest = min(closest, abs(p[id_] / (params.min_p * p[order[0]]) - 1))
        before += p[id_]
    whole = math.fsum(kept.values())
    return {id_: share / whole for id_, share in kept.items()}, closest


class Swept(RandomKey):
    """The first number of a step is step / 2000, the later ones are as usual."""

    def uniform(self, step, draw=0):
        return step / 2000 if draw == 0 else super().uniform(step, draw)


STEPS = 1001
SPARING = {"twin": 4, "kernels": 40}  # who takes long does one of so many draws


class Stepped(RandomKey):
    """One number a step, in equal steps from 0 to 1."""

    def uniform(self, step, draw=0):
        assert draw == 0
        return (step + 0.5) / STEPS


def ranked(size, slope=1.0):
    """Logits whose order is not that of the ids, falling by `slope` from one to the next."""
    return -slope * ((torch.arange(size) * 7 + 3) % size).float()


def random_logits(size, spread, seed=0):
    return spread * torch.randn(size, generator=torch.Generator().manual_seed(seed))


# Sizes are multiples of the sampler's rows of 32, as the model's vocabulary is; TIED is not.
PEAKED = ranked(64, 0.7)
FLAT = random_logits(6016, 0.5)
TIED = torch.tensor([0.0, 1.0, 1.0, -1.0, 1.0, 0.0, 1.0, 1.0, -5.0, 0.0])

DISTRIBUTIONS = {
    "peaked, defaults": (PEAKED, SamplingParams()),
    "peaked, code": (PEAKED, SamplingParams(temperature=0.6, top_k=20)),
    "peaked, nothing cut": (PEAKED, SamplingParams(top_p=1.0, min_p=0.0)),
    "peaked, top-k decides": (PEAKED, SamplingParams(top_k=2, top_p=0.99, min_p=0.01)),
    "peaked, top-p decides": (PEAKED, SamplingParams(top_k=30, top_p=0.6, min_p=0.01)),
    "peaked, min-p decides": (PEAKED, SamplingParams(top_k=30, top_p=0.99, min_p=0.2)),
    "hot": (PEAKED, SamplingParams(temperature=5.0, top_p=0.9)),
    "cold": (PEAKED, SamplingParams(temperature=0.2, min_p=0.0)),
    "flat, defaults": (FLAT, SamplingParams()),
    "flat, small top-p": (FLAT, SamplingParams(top_p=0.03)),
    "flat, half": (FLAT, SamplingParams(top_p=0.5)),
    "flat, small top-k": (FLAT, SamplingParams(top_k=7, top_p=1.0)),
    "flat, large top-k": (FLAT, SamplingParams(top_k=2000, top_p=0.9)),
    "flat, min-p decides": (FLAT, SamplingParams(min_p=0.3, top_p=0.9)),
    "equal, top-p": (torch.zeros(320), SamplingParams(top_p=0.1015)),
    "equal, top-k": (torch.zeros(320), SamplingParams(top_k=5, top_p=1.0)),
    "equal, large top-k": (torch.zeros(3008), SamplingParams(top_k=1500, top_p=1.0)),
    "ties at the cut of top-k": (TIED, SamplingParams(top_k=3, top_p=1.0)),
    "ties at the cut of top-p": (TIED, SamplingParams(top_p=0.45)),
    "ties at the cut of min-p": (TIED, SamplingParams(top_p=1.0, min_p=math.exp(-1.0) * 0.999)),
    "impossible tokens": (torch.tensor([1.0, -math.inf, 0.5, -math.inf]), SamplingParams(top_p=1.0, min_p=0.0)),
    "one token": (torch.tensor([3.0]), SamplingParams()),
}


@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if not name.startswith(("flat", "equal, large"))])
def test_exactly_the_kept_tokens_can_be_drawn(name):
    logits, params = DISTRIBUTIONS[name]
    expected, closest = plain_distribution(logits, params)
    assert closest > SURE
    every = SPARING.get(_way[0], 1)
    found = set(drawn_at(range(0, 2000, every), logits, params, Swept(1)))
    before_cuts, _ = plain_distribution(logits, SamplingParams(params.temperature, top_p=1.0, min_p=0.0))
    assert {id_ for id_ in expected if before_cuts[id_] > every / 1900} <= found <= set(expected)


@pytest.mark.parametrize(
    "name",
    [
        "peaked, defaults",
        "peaked, code",
        "peaked, top-p decides",
        "flat, defaults",
        "flat, small top-p",
        "flat, large top-k",
        "flat, min-p decides",
        "equal, top-p",
        "ties at the cut of top-k",
        "ties at the cut of top-p",
    ],
)
def test_frequencies_are_those_of_the_definition(name):
    """Chi-square of many draws; tokens expected less than 8 times are counted together."""
    logits, params = DISTRIBUTIONS[name]
    expected, _ = plain_distribution(logits, params)
    if _way[0] in ("sorted", "native"):  # they ask for one number: those between 0 and 1 in equal steps tell all
        found = Counter(drawn_at(range(STEPS), logits, params, Stepped(1)))
        assert set(found) <= set(expected)
        assert all(abs(found[id_] - share * STEPS) < 1.05 for id_, share in expected.items())
        return
    draws = 20_000 if name.startswith("peaked") else 4000  # torch takes long for the others
    draws //= SPARING.get(_way[0], 1)
    found = Counter(drawn_at(range(draws), logits, params, RandomKey(11)))
    assert set(found) <= set(expected)
    bins = [(found[id_], share * draws) for id_, share in expected.items() if share * draws >= 8]
    bins.append((draws - sum(count for count, _ in bins), draws - math.fsum(mean for _, mean in bins)))
    chi_square = sum((count - mean) ** 2 / mean for count, mean in bins if mean > 1e-6)
    freedom = max(1, sum(mean > 1e-6 for _, mean in bins) - 1)
    assert chi_square < freedom + 5 * math.sqrt(2 * freedom) + 8


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.integers(-40, 40), min_size=1, max_size=40),
    temperature=st.sampled_from([0.3, 0.6, 1.0, 1.7]),
    top_p=st.floats(0.01, 1.0),
    top_k=st.integers(0, 45),
    min_p=st.sampled_from([0.0, 1e-5, 0.013, 0.4]),
)
def test_any_logits_are_cut_by_the_definition(values, temperature, top_p, top_k, min_p):
    logits = torch.tensor(values, dtype=torch.float32) / 4
    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    expected, closest = plain_distribution(logits, params)
    assume(closest > SURE)
    every = 5 * max(4, SPARING.get(_way[0], 1))
    found = set(drawn_at(range(0, 2000, every), logits, params, Swept(1)))
    before_cuts, _ = plain_distribution(logits, SamplingParams(temperature, top_p=1.0, min_p=0.0))
    assert {id_ for id_ in expected if before_cuts[id_] > every / 1900} <= found <= set(expected)


@pytest.mark.parametrize("top_p", [1e-6, 0.3, 0.95])
def test_most_of_a_large_flat_vocabulary_is_refused_in_few_draws(top_p):
    """Each refusal discards all that sorts behind: draws grow with the logarithm of the share that is kept."""
    logits = random_logits(50_000, 1.0)
    drawn = []

    class Counted(RandomKey):
        def uniform(self, step, draw=0):
            drawn.append(draw)
            return super().uniform(step, draw)

    for step in range(20):
        draw(logits, SamplingParams(top_p=top_p), Counted(3), step)
    assert len(drawn) / 20 <= 3 - 1.5 * math.log(top_p)


@pytest.mark.parametrize("temperature", [1e-320, 1e-45, 1e-30, 1e-6])
def test_a_tiny_temperature_takes_the_likeliest_token(temperature):
    params = SamplingParams(temperature=temperature, top_p=1.0, min_p=0.0)
    assert {draw(PEAKED * 1e6, params, RandomKey(step), step) for step in range(50)} == {int(PEAKED.argmax())}


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53, 1.0])  # 1.0: as if rounding had reached the end
def test_no_random_number_draws_an_impossible_token(uniform, monkeypatch):
    monkeypatch.setattr(RandomKey, "uniform", lambda *_: uniform)
    logits = torch.tensor([-math.inf, -math.inf, 1.0, 1.0, -math.inf])
    assert draw(logits, SamplingParams(top_p=1.0, min_p=0.0), RandomKey(0), 0) in (2, 3)


# ----------------------------------------------------------------------------------------------- random numbers


def test_the_same_key_and_step_give_the_same_number():
    assert RandomKey(5, 2, 3).uniform(7) == RandomKey(5, 2, 3).uniform(7)


def test_numbers_of_different_keys_steps_and_draws_differ():
    keys = [
        RandomKey(seed, stage, candidate) for seed in (0, 1, 2**64 - 1) for stage in range(3) for candidate in range(3)
    ]
    numbers = [key.uniform(step, draw) for key in keys for step in range(4) for draw in range(3)]
    assert len(set(numbers)) == len(numbers)
    assert all(0 <= number < 1 for number in numbers)


@pytest.mark.parametrize(
    "other",
    [
        lambda i: RandomKey(1).uniform(i),
        lambda i: RandomKey(0, stage=1).uniform(i),
        lambda i: RandomKey(0, candidate=1).uniform(i),
        lambda i: RandomKey(0).uniform(i + 1),
        lambda i: RandomKey(0).uniform(i, 1),
    ],
    ids=["seed", "stage", "candidate", "next step", "next draw"],
)
def test_numbers_are_uniform_and_independent(other):
    pairs = torch.tensor([(RandomKey(0).uniform(i), other(i)) for i in range(8000)], dtype=torch.float64)
    assert torch.corrcoef(pairs.T)[0, 1].abs() < 4 / math.sqrt(8000)
    cells = torch.bincount((pairs * 4).long() @ torch.tensor([4, 1]), minlength=16).double()
    assert ((cells - 500) ** 2 / 500).sum() < 15 + 5 * math.sqrt(30)


def test_a_seed_repeats_the_tokens_of_a_row():
    def tokens(seed):
        sampler = row_of(SamplingParams(seed=seed, repetition_penalty=1.2), RandomKey(seed))
        found = []
        for step in range(60):
            found.append(sampler.sample(FLAT, step).token_id)
            sampler.observe(found[-1])
        return found

    assert tokens(4) == tokens(4)
    assert tokens(4) != tokens(5)


# ------------------------------------------------------------------------------ greedy, penalty, log-probabilities


def test_greedy_takes_the_largest_logit_and_needs_no_numbers(monkeypatch):
    monkeypatch.setattr(RandomKey, "uniform", None)
    sampler = row_of(SamplingParams(temperature=0), RandomKey(0))
    assert [sampler.sample(logits, 0).token_id for logits in (PEAKED, FLAT)] == [
        int(PEAKED.argmax()),
        int(FLAT.argmax()),
    ]


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits():
    logits = torch.tensor([4.0, -4.0, 2.0, -2.0, 0.0])
    assert penalise_repetition(logits, torch.tensor([0, 1, 4]), 2.0).tolist() == [2.0, -8.0, 2.0, -2.0, 0.0]
    assert logits.tolist() == [4.0, -4.0, 2.0, -2.0, 0.0]


def test_repetition_penalty_counts_a_token_once_and_moves_the_choice():
    logits = torch.tensor([1.0, 1.2, 0.9])
    sampler = row_of(SamplingParams(temperature=0, repetition_penalty=1.25), RandomKey(0))
    sampler.observe(1, 1, 1)
    assert sampler.sample(logits, 0).token_id == 0
    sampler.observe(0)
    assert sampler.sample(logits, 1).token_id == 1  # 0.8, 0.96, 0.9


def test_penalised_rows_follow_the_penalised_distribution():
    params = SamplingParams(repetition_penalty=2.0, top_p=1.0)
    sampler = row_of(params, RandomKey(2))
    sampler.observe(0, 3)
    logits = torch.tensor([2.0, 1.0, 0.5, -1.0])
    expected, _ = plain_distribution(torch.tensor([1.0, 1.0, 0.5, -2.0]), params)
    every = SPARING.get(_way[0], 1)
    draws = 5000 // every
    found = Counter(sampler.sample(logits, step).token_id for step in range(draws))
    assert all(abs(found[id_] / draws - share) < 0.03 * math.sqrt(every) for id_, share in expected.items())


def test_without_a_penalty_nothing_is_remembered():
    sampler = row_of(SamplingParams(), RandomKey(0))
    sampler.observe(*range(100))
    assert not len(sampler.seen.tensor)


def test_log_probabilities_are_those_of_the_raw_logits():
    logits = random_logits(500, 3.0)
    exact = torch.log_softmax(logits.double(), dim=0)
    params = SamplingParams(temperature=0.3, top_k=3, repetition_penalty=1.5)
    sampler = row_of(params, RandomKey(0), top_logprobs=4)
    sampler.observe(int(logits.argmax()))
    sampled = sampler.sample(logits, 0)
    assert sampled.logprob == pytest.approx(float(exact[sampled.token_id]), abs=1e-5)
    assert [id_ for id_, _ in sampled.top_logprobs] == exact.topk(4).indices.tolist()
    assert [value for _, value in sampled.top_logprobs] == pytest.approx(exact.topk(4).values.tolist(), abs=1e-5)


@pytest.mark.parametrize("size", [1, 7, 4096, 4097, 8200, 20_000])
def test_a_row_is_normalised_and_its_likeliest_token_the_first_of_equals(size):
    logits = random_logits(size, 5.0).round().clamp(max=9)
    logits[::3] = -math.inf  # in all lengths but one, whole blocks of 4,096 among them
    logits[4096:8192] = -math.inf
    if size == 1:
        logits[0] = -80.0
    normaliser, likeliest = normalise(logits)
    assert normaliser == pytest.approx(float(logits.double().logsumexp(0)), abs=1e-5)
    assert likeliest == int((logits == logits.max()).nonzero()[0])


def test_any_number_of_threads_normalises_to_the_same_bits():
    logits, threads, found = random_logits(50_000, 3.0), torch.get_num_threads(), set()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.add(normalise(logits))
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1 or _way == ["torch"]


@pytest.mark.parametrize("others", [-math.inf, 0.5])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 4095, 5000, 8998])
def test_one_logit_that_is_no_number_is_found_among_the_others(at, bad, others):
    logits = torch.full((9000,), others)
    logits[8999], logits[at] = 1.0, bad
    assert not math.isfinite(normalise(logits)[0])
    with pytest.raises(CheckpointError, match="not numbers"):
        row_of(SamplingParams(temperature=0), RandomKey(0)).sample(logits, 0)


def test_a_token_has_one_log_probability():
    sampled = row_of(SamplingParams(temperature=0), RandomKey(0), top_logprobs=1).sample(random_logits(5000, 3.0), 0)
    assert sampled.top_logprobs == ((sampled.token_id, sampled.logprob),)


def test_a_forced_token_has_its_own_log_probability():
    sampled = row_of(SamplingParams(), RandomKey(0)).sample(PEAKED, 0, forced=17)
    assert sampled.token_id == 17
    assert sampled.logprob == pytest.approx(float(torch.log_softmax(PEAKED.double(), 0)[17]), abs=1e-5)


@pytest.mark.parametrize("size", [1, 7, 32, 96, 97, 3200])
@pytest.mark.parametrize("count", [1, 5, 90])
def test_the_largest_are_found_by_sets_too(size, count):
    values, ids = largest(random_logits(size, 1.0), min(count, size))
    expected = random_logits(size, 1.0).topk(min(count, size))
    assert torch.equal(values, expected.values)
    assert torch.equal(ids, expected.indices)


GREEDY = [{"temperature": 0}, {"top_p": 0}, {"top_k": 1, "temperature": 1e6}]


@pytest.mark.parametrize("params", GREEDY)
def test_what_keeps_one_token_keeps_the_likeliest_and_of_equals_the_first(params):
    logits = random_logits(3200, 1.0)
    logits[[77, 700]] = logits.max() + 1e-3
    sampled = {row_of(SamplingParams(**params), RandomKey(seed)).sample(logits, seed).token_id for seed in range(20)}
    assert sampled == {77}


def test_a_repetition_penalty_spares_control_tokens():
    logits = torch.tensor([2.0, 1.5, 1.0, -1.0])
    sampler = row_of(SamplingParams(repetition_penalty=1.3), RandomKey(0), spared={0, 3})
    sampler.observe(0, 1, 3)
    sampler.observe(0)
    penalised = penalise_repetition(logits, torch.tensor([1]), 1.3)
    assert sampler.seen.tensor.tolist() == [1]
    plain = Counter(draw(penalised, SamplingParams(), RandomKey(0), step) for step in range(500))
    assert Counter(sampler.sample(logits, step).token_id for step in range(500)) == plain


def test_more_log_probabilities_than_tokens_are_all_of_them():
    assert len(row_of(SamplingParams(), RandomKey(0), top_logprobs=99).sample(TIED, 0).top_logprobs) == len(TIED)


# ----------------------------------------------------------------------------------- what is no number, or no parameter


@pytest.mark.parametrize("bad", [[math.nan, 1.0], [math.inf, 1.0], [math.inf, math.inf], [-math.inf, -math.inf]])
@pytest.mark.parametrize(
    "params",
    [SamplingParams(), SamplingParams(temperature=0), SamplingParams(top_k=1), SamplingParams(min_p=0.0, top_p=1.0)],
    ids=["default", "greedy", "top-k", "nothing cut"],
)
def test_logits_that_are_no_numbers_end_in_a_sentence(bad, params):
    logits = torch.tensor([0.0, *bad] if math.inf in bad or bad[0] != bad[0] else bad)
    with pytest.raises(CheckpointError, match="not numbers"):
        row_of(params, RandomKey(0)).sample(logits, 0)
    assert not params.temperature or draw(logits, params, RandomKey(0), 0) is None


def test_minus_infinity_is_a_token_that_is_never_chosen():
    logits = torch.full((100,), -math.inf)
    logits[[7, 9]] = torch.tensor([1.0, 0.0])
    sampler = row_of(SamplingParams(), RandomKey(0), top_logprobs=3)
    sampled = [sampler.sample(logits, step) for step in range(40)]
    assert {one.token_id for one in sampled} == {7, 9}
    assert sampled[0].top_logprobs[2][1] == -math.inf


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "temperature": [-0.1, math.nan, math.inf, 1e7, "hot", None, True, 10**400],
        "top_p": [-0.01, -1, 1.0001, math.nan, "0.9", None],
        "top_k": [-1, 2.5, math.nan, "20", None, True],
        "min_p": [-0.1, 1, 1.5, math.nan, None],
        "repetition_penalty": [0, -1, math.nan, math.inf, 1e-300, 1e300, "1"],
        "seed": [-1, 1 << 64, 0.5, None, True],
    }.items(),
)
def test_parameters_out_of_range_are_refused_by_name(name, values):
    for value in values:
        with pytest.raises(UsageError, match=f"^{name} is .*; it must be"):
            SamplingParams(**{name: value})


@pytest.mark.parametrize(
    "good",
    [
        {"temperature": 0},
        {"temperature": 2},
        {"top_p": 1},
        {"top_k": 10**9},
        {"min_p": 0},
        {"repetition_penalty": 1},
        {"seed": 2**64 - 1},
    ],
)
def test_the_ends_of_the_ranges_are_allowed_and_work(good):
    params = SamplingParams(**good)
    assert 0 <= row_of(params, RandomKey(params.seed)).sample(PEAKED, 0).token_id < len(PEAKED)


# -------------------------------------------------------------------------- weights that a high temperature makes equal

CLOSE = -1e-4 * ((torch.arange(9000) * 7 + 3) % 9000).float()  # over several of the blocks that threads work on
BY_LOGIT = CLOSE.argsort(descending=True).tolist()


@pytest.mark.parametrize(
    ("cuts", "kept"),
    [
        ({"top_k": 1}, 1),
        ({"top_k": 20}, 20),
        ({"top_k": 5000}, 5000),
        ({"top_p": 1e-50}, 1),  # none in float32
        ({"top_p": 3.5 / 9000}, 4),
        ({"top_p": 3.5 / 9000, "top_k": 3, "min_p": 0.99}, 3),
        ({"top_k": 2**64 + 2}, 9000),
    ],
    ids=str,
)
def test_equal_weights_are_cut_in_the_order_of_their_logits(cuts, kept):
    params = SamplingParams(**{"temperature": 1e6, "top_p": 1.0, "min_p": 0.0, **cuts})
    found = {draw(CLOSE, params, Swept(1), step) for step in range(0, 2000, 80)}
    assert found <= set(BY_LOGIT[:kept])
    assert kept > 4 or len(found) == kept


def test_equal_weights_of_equal_logits_are_cut_by_id():
    logits = torch.zeros(9000)
    logits[[7, 4100, 8999]] = 1e-3
    for top_k, kept in ((2, {7, 4100}), (5, {7, 4100, 8999, 0, 1})):
        params = SamplingParams(temperature=1e6, top_p=1.0, min_p=0.0, top_k=top_k)
        assert {draw(logits, params, Swept(1), step) for step in range(0, 2000, 80)} == kept


@pytest.mark.parametrize("temperature", [1e-320, 1e-30, 1.0, 1e6])
@pytest.mark.parametrize(
    "logits", [PEAKED, FLAT, CLOSE, TIED, torch.tensor([1.0, 1.0000001]), torch.tensor([2e38, -2e38, 3e38])]
)
def test_top_k_1_is_the_likeliest_at_any_temperature(temperature, logits):
    params = SamplingParams(temperature=temperature, top_k=1)
    assert {draw(logits, params, RandomKey(step), step) for step in range(5)} == {int(logits.argmax())}


@pytest.mark.parametrize("part", ["seed", "stage", "candidate"])
@pytest.mark.parametrize("value", [-1, 1 << 64, 0.5, True, None, "1"])
def test_a_key_s_part_out_of_range_is_refused_by_name(part, value):
    with pytest.raises(UsageError, match=f"^{part} is .*; it must be a whole number from 0 to"):
        RandomKey(**{"seed": 0, part: value})


@pytest.mark.parametrize("value", [-1, 1 << 64, 0.5])
def test_a_step_out_of_range_is_refused(value):
    with pytest.raises(UsageError, match=r"^step is .*; it must be"):
        RandomKey(0).uniform(value)


@pytest.mark.parametrize(
    "logits",
    [
        torch.zeros(0),
        torch.zeros(2, 3),
        torch.zeros(()),
        torch.zeros(64).half(),
        torch.zeros(64).to(torch.float8_e4m3fn),
        torch.zeros(64).double(),
        torch.zeros(64).long(),
        torch.zeros(64, device="meta"),
        [0.0, 1.0],
    ],
    ids=str,
)
def test_what_is_no_row_of_logits_is_refused(logits):
    for call in (normalise, lambda x: draw(x, SamplingParams(), RandomKey(0), 0), lambda x: largest(x, 0)):
        with pytest.raises(ValueError, match=r"logits must be \(V\) float32"):
            call(logits)


def test_logits_with_gaps_between_them_are_drawn_from_as_they_are():
    wide = torch.stack([FLAT, FLAT.flip(0)], 1)[:, 0]
    assert normalise(wide) == normalise(FLAT)
    steps = range(20)
    assert [draw(wide, SamplingParams(), RandomKey(1), s) for s in steps] == [
        draw(FLAT, SamplingParams(), RandomKey(1), s) for s in steps
    ]


@pytest.mark.parametrize("count", [-1, 65, 2.0, True])
def test_a_count_of_largest_values_that_there_are_not_is_refused(count):
    with pytest.raises(ValueError, match="the count must be a whole number from 0 to 64"):
        largest(PEAKED, count)
