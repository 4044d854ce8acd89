"""What one asks of the Engine, and whether it can be asked: every field is checked before anything changes."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from zaya_core.errors import PromptTooLongError, UsageError
from zaya_core.sampling.params import SamplingParams
from zaya_core.whole_numbers import as_whole, is_number

MAX_TOP_LOGPROBS = 1000
MAX_PROMPT_LOGPROBS = 20  # a long prompt has many positions
MAX_BIAS = 100  # as OpenAI's: -100 never chooses a token, 100 nearly always
MAX_BIASED = 1024  # ids; all of them are looked at for each token
MAX_LABEL = 1000  # characters or bytes of a salt or a group's name
MAX_STOPS = 64
MAX_STOP_CHARACTERS = 1000  # the end of a text is held back as long as it may begin a stop string
_WORDS = 1 << 64  # the parts of a random key have 64 bits

StopInThinking = Literal["end", "close"]


@dataclass(frozen=True)
class Request:
    """One prompt and how to go on from it.

    ids: of any sequence, array or tensor of one dimension whose members are whole numbers; bools are none.
    max_tokens: None means up to the end of the context; 0, with `prompt_logprobs` only, that nothing is generated.
    thinking_budget: after so many thinking tokens `</think>` is forced. answer_budget: most tokens that are not
    thinking; 0 ends a request with its thinking. snapshot_at: prompt positions whose state is worth keeping for later
    prompts, in any order. keep_state: keep the state at the end, too.
    stage, candidate: with the seed, the key of the random numbers. ignore_stop_ids: for benchmarks.
    begun: tokens of the answer that are there already; it goes on as if this request had chosen them, so that an answer
    that was stopped and continued equals one that was not, and ends without a token where that would have ended.
    max_tokens counts new tokens, the budgets all.
    logit_bias: by id, what is added to its logits before a token is chosen, from -100 to 100.
    stop_in_thinking: what a stop id does in the first thought: "end" the request, or "close" the thought in its place.
    salt: kept prefixes, and the beginnings of prompts that wait, are shared among requests with the same salt only.
    prompt_logprobs: of each prompt token but the first its log-probability, and so many of the likeliest beside it, in
    `PromptScored` events; the whole prompt is then computed, whatever is kept. None: no scores.
    group, group_rows: so many requests of that group are at work at once, this one included; others go first.
    deadline_seconds: from its submission; at the next token or layer after it the request ends with reason "timeout".
    """

    ids: Sequence[int]
    sampling: SamplingParams = field(default_factory=SamplingParams)
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    thinking_budget: int | None = None
    answer_budget: int | None = None
    top_logprobs: int = 0
    snapshot_at: tuple[int, ...] = ()
    keep_state: bool = False
    stage: int = 0
    candidate: int = 0
    ignore_stop_ids: bool = False
    begun: Sequence[int] = ()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop_in_thinking: StopInThinking = "end"
    salt: bytes | str = b""
    prompt_logprobs: int | None = None
    group: str = ""
    group_rows: int | None = None
    deadline_seconds: float | None = None


def checked(request: Request, vocab_size: int, context: int) -> Request:
    """The request with a copy of its sequences, and all numbers as int.

    Raises: UsageError for a field of another type or out of its range; PromptTooLongError when prompt and `begun` leave
    no room in the context.
    """
    if not isinstance(request, Request):
        raise UsageError(f"A request is a Request, not {type(request).__name__}.")
    ids, begun = (_ids(name, getattr(request, name), vocab_size) for name in ("ids", "begun"))
    if not ids:
        raise UsageError("The prompt is empty.")
    length, numbers = len(ids) + len(begun), _numbers(request)
    if length + (numbers["max_tokens"] != 0) > context:
        raise PromptTooLongError(
            f"The prompt is too long: {length:,} tokens, and the context holds {context:,} including the answer. "
            "Shorten it or raise --ctx."
        )
    if not isinstance(request.sampling, SamplingParams):
        raise UsageError(f"sampling is {reprlib.repr(request.sampling)}; it must be SamplingParams.")
    if begun and numbers["prompt_logprobs"] is not None:
        raise UsageError("prompt_logprobs are of a prompt alone; an answer that has begun is there: leave one out.")
    flags = {name: _flag(name, getattr(request, name)) for name in ("keep_state", "ignore_stop_ids")}
    values: dict[str, Any] = {**numbers, **flags, **_labels(request), "ids": ids, "begun": begun}
    return replace(
        request,
        **values,
        stop=_stop(request.stop),
        snapshot_at=_positions(request.snapshot_at, length),
        logit_bias=_bias(request.logit_bias, vocab_size),
        deadline_seconds=_seconds(request.deadline_seconds),
    )


def whole_number(name: str, value: object, least: int, most: int | None = None) -> int:
    """`value` as an int. Raises UsageError for what is no whole number, or below `least` or above `most`."""
    number = as_whole(value)
    if number is None or number < least or (most is not None and number > most):
        limits = f"{least} or more" if most is None else f"from {least} to {most:,}"
        raise UsageError(f"{name} is {reprlib.repr(value)}; it must be a whole number, {limits}.")
    return number


def _numbers(request: Request) -> dict[str, int | None]:
    limits: dict[str, tuple[int, int | None]] = {
        "max_tokens": (1 if request.prompt_logprobs is None else 0, None),
        "thinking_budget": (0, None),
        "answer_budget": (0, None),
        "top_logprobs": (0, MAX_TOP_LOGPROBS),
        "stage": (0, _WORDS - 1),
        "candidate": (0, _WORDS - 1),
        "prompt_logprobs": (0, MAX_PROMPT_LOGPROBS),
        "group_rows": (1, None),
    }
    may_be_none = ("max_tokens", "thinking_budget", "answer_budget", "prompt_logprobs", "group_rows")
    given = {name: getattr(request, name) for name in limits}
    return {
        name: None if value is None and name in may_be_none else whole_number(name, value, *limits[name])
        for name, value in given.items()
    }


def _sequence(name: str, value: Any, members: str) -> list[Any]:
    """The members of a sequence, an array or a tensor of one dimension."""
    found = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(found, Sequence) or isinstance(found, (str, bytes, bytearray)):
        raise UsageError(f"{name} is {reprlib.repr(value)}; it must be a sequence of {members}.")
    return list(found)


def _ids(name: str, value: object, vocab_size: int) -> tuple[int, ...]:
    members = _sequence(name, value, "token ids")
    # Looking at each of a long prompt's would take as long as all else that is done to queue it.
    ids = members if set(map(type, members)) <= {int} else [_id(name, member) for member in members]
    if ids and (min(ids) < 0 or max(ids) >= vocab_size):
        raise UsageError(f"The prompt has ids outside the vocabulary of {vocab_size:,}: is the tokenizer this model's?")
    return tuple(ids)


def _id(name: str, member: object) -> int:
    if (id_ := as_whole(member)) is None:
        raise UsageError(f"{name} has {reprlib.repr(member)} among its ids; they must be whole numbers.")
    return id_


def _positions(value: object, length: int) -> tuple[int, ...]:
    positions = _sequence("snapshot_at", value, "positions")
    return tuple(sorted({whole_number("A position of snapshot_at", one, 1, length) for one in positions}))


def _stop(value: object) -> tuple[str, ...]:
    texts = _sequence("stop", value, "texts")
    if len(texts) > MAX_STOPS:
        raise UsageError(f"stop has {len(texts):,} texts; {MAX_STOPS} is the most.")
    for text in texts:
        if not isinstance(text, str) or not 0 < len(text) <= MAX_STOP_CHARACTERS:
            raise UsageError(
                f"A stop string is {reprlib.repr(text)}; it must be a text of 1 to {MAX_STOP_CHARACTERS:,} characters."
            )
    return tuple(texts)


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UsageError(f"{name} is {reprlib.repr(value)}; it must be True or False.")
    return value


def _labels(request: Request) -> dict[str, Any]:
    """Salt, as bytes, group and what a stop id does."""
    salt, group, stops = request.salt, request.group, request.stop_in_thinking
    for name, value, kinds in (("salt", salt, (bytes, str)), ("group", group, (str,))):
        if not isinstance(value, kinds) or len(value) > MAX_LABEL:
            allowed = " or ".join("bytes" if kind is bytes else "a text" for kind in kinds)
            raise UsageError(f"{name} is {reprlib.repr(value)}; it must be {allowed} of at most {MAX_LABEL:,}.")
    if request.group_rows is not None and not group:
        raise UsageError("group_rows limits a group, and the request names none.")
    if not isinstance(stops, str) or stops not in get_args(StopInThinking):
        raise UsageError(f'stop_in_thinking is {reprlib.repr(stops)}; it must be "end" or "close".')
    return {"salt": salt.encode("utf-8", "surrogatepass") if isinstance(salt, str) else salt}


def _bias(value: object, vocab_size: int) -> dict[int, float]:
    """A copy, its ids as int."""
    if not isinstance(value, Mapping):
        raise UsageError(f"logit_bias is {reprlib.repr(value)}; it must be a mapping from token ids to numbers.")
    if len(value) > MAX_BIASED:
        raise UsageError(f"logit_bias has {len(value):,} ids; {MAX_BIASED:,} is the most.")
    bias: dict[int, float] = {}
    for member, added in value.items():
        id_ = whole_number("An id of logit_bias", member, 0, vocab_size - 1)
        if not is_number(added) or not -MAX_BIAS <= added <= MAX_BIAS:
            wrong = reprlib.repr(added)
            raise UsageError(f"logit_bias of id {id_} is {wrong}; it must be a number from -{MAX_BIAS} to {MAX_BIAS}.")
        bias[id_] = float(added)
    return bias


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if not is_number(value) or not 0 < value < float("inf"):
        raise UsageError(f"deadline_seconds is {reprlib.repr(value)}; it must be a number above 0.")
    return float(value)
