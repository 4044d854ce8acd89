"""From logits to one token: penalties, temperature, cuts, and random numbers that are keyed, not drawn in sequence.

Definition. With p = softmax(logits / temperature) over the whole vocabulary, sorted from the largest: keep the first
`top_k` tokens, the shortest beginning whose sum reaches `top_p`, and those with p >= min_p * max(p). All three are
beginnings of the same order and all use the full p, so that it does not matter which comes first; the token is drawn
from what all three keep. The order is that of the logits, equal ones by id: a large temperature makes weights equal.
"""

from __future__ import annotations

import hashlib
import math
import reprlib
import struct
from collections.abc import Set
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor
from torch.nn.functional import threshold

from quant.kernels.pointers import described
from quant.kernels.resolve import cpu_products
from quant.matrix import expect_index
from zaya_core.errors import CheckpointError, UsageError
from zaya_core.kernels.sampling import draw_natively, normalise_natively
from zaya_core.whole_numbers import expect_whole, is_number, is_whole

LEAST_TEMPERATURE = 1e-30  # a smaller one could not be told from it
_NO_NUMBERS = "The model computed logits that are not numbers: its weights are damaged; download the files again."
_SET = 32  # the largest of each set of so many logits is found first, and the largest of all among those
_SAMPLED = 64  # one weight of so many shows how the others are spread
_OFTEN_REFUSED = 0.7  # a top-p up to here refuses often enough that a floor found beforehand saves time


@dataclass(frozen=True)
class SamplingParams:
    """How to choose tokens. Defaults: the model card's, with the report's min-p (appendix E).

    `temperature` 0, `top_p` 0 and `top_k` 1 are greedy. `top_k` 0, `top_p` 1 and `min_p` 0 are off. Raises UsageError
    when out of range.
    """

    temperature: float = 1.0
    top_p: float = 0.95
    top_k: int = 0
    min_p: float = 1e-5
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("temperature", "top_p", "min_p", "repetition_penalty"):
            _require(is_number(getattr(self, name)), name, getattr(self, name), "a number")
        for name in ("top_k", "seed"):
            _require(is_whole(getattr(self, name)), name, getattr(self, name), "a whole number")
        _require(0 <= self.temperature <= 1e6, "temperature", self.temperature, "from 0 (the likeliest token) to 10^6")
        _require(0 <= self.top_p <= 1, "top_p", self.top_p, "from 0 (the likeliest token) to 1 (off)")
        _require(self.top_k >= 0, "top_k", self.top_k, "0 (off) or more")
        _require(0 <= self.min_p < 1, "min_p", self.min_p, "at least 0 (off) and below 1")
        penalty = self.repetition_penalty
        _require(0.01 <= penalty <= 100, "repetition_penalty", penalty, "from 0.01 to 100 (1 is off)")
        _expect_key_part("seed", self.seed)

    @property
    def is_greedy(self) -> bool:
        """Whether only the likeliest token is kept, of equals the first, so that nothing is drawn."""
        return self.temperature == 0 or self.top_p == 0 or self.top_k == 1


@dataclass(frozen=True)
class RandomKey:
    """Names the random numbers of one row; two rows with different keys have independent numbers.

    Raises UsageError for a part that is not from 0 to 2^64 - 1.
    """

    seed: int
    stage: int = 0
    candidate: int = 0

    def __post_init__(self) -> None:
        for name in ("seed", "stage", "candidate"):
            _expect_key_part(name, getattr(self, name))

    def uniform(self, step: int, draw: int = 0) -> float:
        """A number in [0, 1) that depends on the key, the step and the draw only. Raises UsageError as the key does."""
        _expect_key_part("step", step)
        _expect_key_part("draw", draw)
        message = struct.pack("<QQQQQ", self.seed, self.stage, self.candidate, step, draw)
        bits = int.from_bytes(hashlib.blake2b(message, digest_size=8).digest(), "little")
        return (bits >> 11) / (1 << 53)


@dataclass(frozen=True)
class Sampled:
    """A token with the model's own log-probabilities: natural logarithm, temperature 1, nothing cut or penalised."""

    token_id: int
    logprob: float
    top_logprobs: tuple[tuple[int, float], ...] = ()


@dataclass
class Sampler:
    """Chooses the tokens of one row.

    spared: ids that repetition penalties leave alone. The end of a turn stands in every prompt of a conversation, and
    a model that is fined for it does not stop.
    State: `seen`, which other ids the row contains, kept only when a repetition penalty needs it; the same as a tensor.
    """

    params: SamplingParams
    key: RandomKey
    top_logprobs: int = 0
    spared: Set[int] = frozenset()
    seen: set[int] = field(default_factory=set)
    _seen_ids: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def observe(self, *ids: int) -> None:
        """Note ids that the row contains, from the prompt or generated."""
        new = set(ids) - self.seen - self.spared if self.params.repetition_penalty != 1.0 else set()
        if new:
            self.seen |= new
            self._seen_ids = torch.cat([self._seen_ids, torch.tensor(list(new))])

    def sample(self, logits: Tensor, step: int, forced: int | None = None) -> Sampled:
        """Choose the next token. logits: (V) float32. `forced` replaces the choice, not the log-probabilities.

        Raises: CheckpointError when the logits are no numbers (-inf is one: such a token is never chosen); ValueError
        for logits of another form, or a forced id that they do not have.
        """
        normaliser, likeliest = normalise(logits)
        if forced is not None:
            expect_whole("the forced id", forced, 0, len(logits) - 1)
        token_id = self._choose(logits, likeliest, step) if forced is None else forced
        best: tuple[tuple[int, float], ...] = ()
        if self.top_logprobs:
            values, ids = largest(logits, min(self.top_logprobs, len(logits)))
            best = tuple(zip(ids.tolist(), (values.double() - normaliser).tolist(), strict=True))
        return Sampled(token_id, float(logits[token_id]) - normaliser, best)

    def _choose(self, logits: Tensor, likeliest: int, step: int) -> int:
        if self.seen:
            logits = penalise_repetition(logits, self._seen_ids, self.params.repetition_penalty)
        if self.params.is_greedy:
            return int(logits.argmax()) if self.seen else likeliest
        return draw(logits, self.params, self.key, step)


def normalise(logits: Tensor) -> tuple[float, int]:
    """log(sum(e^logits)), and the id of the largest logit, of equals the first. logits: (V) float32.

    Raises: CheckpointError when the logits are no numbers, ValueError when they have another form.
    """
    _expect_logits(logits)
    if logits.device.type == "cpu" and (native := cpu_products().native):
        normaliser, likeliest = normalise_natively(native, logits)
    else:
        normaliser, likeliest = float(torch.logsumexp(logits, dim=0)), int(logits.argmax())
    _expect_number(normaliser)
    return normaliser, likeliest


def penalise_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive logits of seen tokens by `penalty`, multiply negative ones (CTRL, arXiv 1909.05858).

    seen: ids, each once. Raises IndexError for one that is none, ValueError for logits of another form.
    """
    _expect_logits(logits)
    expect_index(seen, len(logits))
    if seen.dim() != 1:
        raise ValueError(f"the ids that were seen must be a row; they are {described(seen)}")
    index = seen.to(logits.device)
    old = logits[index]
    return logits.scatter(0, index, torch.where(old > 0, old / penalty, old * penalty))


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`values.topk(count)`, several times as fast where the count is small: all are in the sets of largest maximum.

    values: (V) float32. Raises ValueError for others, or a count that is not from 0 to V.
    """
    _expect_logits(values)
    expect_whole("the count", count, 0, len(values))
    maxima = _set_maxima(values)
    if not count < len(maxima) < len(values):
        found, ids = values.topk(count)
        return found, ids
    firsts = maxima.topk(count).indices[:, None]
    ids = (firsts + torch.arange(_SET, device=values.device) * len(maxima)).flatten()
    found, order = values[ids].topk(count)
    return found, ids[order]


def _set_maxima(values: Tensor) -> Tensor:
    """The largest of each set of values, a set being every n-th (which is faster than neighbours); n maxima."""
    return values if len(values) % _SET else values.unflatten(0, (_SET, -1)).amax(0)


def draw(logits: Tensor, params: SamplingParams, key: RandomKey, step: int) -> int:
    """Draw a token by the definition at the top. logits: (V) float32; temperature and top-p above 0.

    Raises: CheckpointError when the logits are no numbers, ValueError when they have another form.
    """
    _expect_logits(logits)
    native = cpu_products().native if logits.device.type == "cpu" else None
    if native is None:
        return _draw_by_refusal(logits, params, key, step)
    cuts = (max(params.temperature, LEAST_TEMPERATURE), params.top_p, params.min_p, min(params.top_k, len(logits)))
    token_id = draw_natively(native, logits, *cuts, key.uniform(step))
    if token_id is None:
        raise CheckpointError(_NO_NUMBERS)
    return token_id


def _draw_by_refusal(logits: Tensor, params: SamplingParams, key: RandomKey, step: int) -> int:
    """The same with torch.

    Nothing is sorted (262,272 numbers would take 25 ms). A token is drawn from candidates that are a beginning of the
    order and contain all that is kept. If a cut refuses it, then also everything behind it: what sorts before it is the
    next, smaller list of candidates. The kept tokens keep their proportions, and the first of the order is never
    refused, so that this ends, after about ln(1 / share of the kept) draws.
    """
    # Differences first: a small temperature cannot overflow them.
    weights = logits - logits.max()
    weights = weights.div_(
        max(params.temperature, LEAST_TEMPERATURE)
    ).exp_()  # p / max(p); in place: fresh memory is slow
    total = float(weights.sum(dtype=torch.float64))
    _expect_number(total)
    mass_limit = params.top_p * total if params.top_p < 1 else math.inf
    weights = _cut_to_floor_(weights, logits, params, mass_limit)
    ids: Tensor | None = None  # None: the weights are those of all tokens
    for attempt in count():
        at = _draw_in_proportion(weights, key.uniform(step, attempt))
        before = _before(weights, logits, at)
        in_top_k = not params.top_k or int(torch.count_nonzero(before)) < params.top_k
        if in_top_k and float(before.sum(dtype=torch.float64)) < mass_limit:
            break
        weights, logits, ids = _gather(before, logits, ids)
    return at if ids is None else int(ids[at])


def _cut_to_floor_(weights: Tensor, logits: Tensor, params: SamplingParams, mass_limit: float) -> Tensor:
    """Put zero in place of what min-p cuts, and of what is certainly not kept by the others, in `weights` itself."""
    if params.top_k and params.top_k <= len(maxima := _set_maxima(logits)):
        # So many sets have a maximum of at least this that the top k are not below it.
        lowest = maxima.topk(params.top_k).values[-1]
        weights.masked_fill_(logits < lowest, 0.0)
        _drop_late_ties_(weights, logits, lowest, params.top_k)
    floor = params.min_p
    if params.top_p <= _OFTEN_REFUSED:
        floor = max(floor, _floor_of_mass(weights, mass_limit))
    return weights if floor == 0 else threshold(weights, _just_below(floor), 0.0, inplace=True)


def _drop_late_ties_(weights: Tensor, logits: Tensor, lowest: Tensor, top_k: int) -> None:
    """Put zero in place of the weights of the lowest logit that are not among the top k: those behind others by id."""
    is_tie = logits == lowest
    ties = int(torch.count_nonzero(is_tie))
    kept = max(0, top_k - int(torch.count_nonzero(logits > lowest)))
    if ties > kept:
        weights[is_tie.nonzero()[kept:, 0]] = 0


def _floor_of_mass(weights: Tensor, mass: float) -> float:
    """A weight such that those not below it sum to more than `mass`, guessed from a sample; 0 where the guess fails."""
    sample = weights[::_SAMPLED].sort(descending=True).values
    sums = sample.cumsum(0, dtype=torch.float64)
    wanted = 1.1 * mass / _SAMPLED
    if float(sums[-1]) <= wanted:
        return 0.0
    guess = float(sample[int(torch.searchsorted(sums, wanted, right=True))])
    reached = float(threshold(weights, _just_below(guess), 0.0).sum(dtype=torch.float64))
    return guess if reached > mass else 0.0


def _just_below(value: float) -> float:
    """The float32 before a positive float32."""
    return float(torch.nextafter(torch.tensor(value), torch.tensor(0.0)))


def _draw_in_proportion(weights: Tensor, uniform: float) -> int:
    """First a row of neighbours by the rows' sums, then one of the row: no second vector as long as the vocabulary."""
    rows = weights[None] if len(weights) % _SET else weights.unflatten(0, (-1, _SET))
    sums = rows.sum(1, dtype=torch.float64).cumsum(0)
    position = uniform * float(sums[-1])
    row = _first_beyond(sums, position)
    start = float(sums[row - 1]) if row else 0.0
    return row * rows.shape[1] + _first_beyond(rows[row].cumsum(0, dtype=torch.float64), position - start)


def _first_beyond(sums: Tensor, position: float) -> int:
    """Where ascending sums exceed the position; it counts as inside even if rounding took it to the end, so that a
    weight of zero is never drawn."""
    return int(torch.searchsorted(sums, min(position, math.nextafter(float(sums[-1]), 0.0)), right=True))


def _before(weights: Tensor, logits: Tensor, at: int) -> Tensor:
    """Weights of what sorts before the one at `at`, larger logits and equal ones with a smaller id; zero elsewhere."""
    own = logits[at]
    before = weights.where(logits > own, 0.0)
    equal = logits[:at] == own
    if equal.any():
        before[:at] += weights[:at] * equal
    return before


def _gather(weights: Tensor, logits: Tensor, ids: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """The candidates without their zeros, once those are so many that this costs less than carrying them along."""
    if 16 * int(torch.count_nonzero(weights)) > len(weights):
        return weights, logits, ids
    positions = weights.nonzero()[:, 0]
    return weights[positions], logits[positions], positions if ids is None else ids[positions]


def _expect_number(value: float) -> None:
    """Sums over the vocabulary are NaN or infinite as soon as one logit is NaN or +inf, or all are -inf."""
    if not math.isfinite(value):
        raise CheckpointError(_NO_NUMBERS)


def _expect_logits(logits: Tensor) -> None:
    """Raises ValueError for anything else than (V) float32, V at least 1, on a CPU or GPU."""
    if not (
        isinstance(logits, Tensor)
        and logits.dim() == 1
        and len(logits)
        and logits.dtype == torch.float32
        and logits.layout == torch.strided
        and not logits.is_meta
    ):
        raise ValueError(f"logits must be (V) float32, V at least 1; they are {described(logits)}")


def _expect_key_part(name: str, value: object) -> None:
    in_range = is_whole(value) and 0 <= value < 1 << 64
    _require(in_range, name, value, "a whole number from 0 to 2^64 - 1")


def _require(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise UsageError(f"{name} is {reprlib.repr(value)}; it must be {allowed}.")
