"""One attempt at a problem: what is asked of a generator, and what comes back.

A generator is anything that can run several rollouts at once: the Engine (`local`), a server (`endpoint`), a script.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from zaya_core.errors import ZayaError
from zaya_core.redaction import redacted
from zaya_core.rsa.params import Pass, PromptSizes

if TYPE_CHECKING:
    from zaya_core.sampling.params import SamplingParams

Messages = Sequence[Mapping[str, str]]

# done: it ended by itself. cut: a budget ended it. loop: it repeated itself. failed: no result. stopped: by the caller.
RolloutState = Literal["done", "cut", "loop", "failed", "stopped"]


@dataclass(frozen=True)
class RolloutRequest:
    """What to generate. think, answer, tail: budgets in tokens; answer 0 ends the rollout with its thinking.

    shared: tokens with which all prompts of the problem begin. sampling: its seed, with `stage` and `candidate`, is the
    key of the random numbers. passes: what it hands on, see `tails.handed_on`.
    """

    stage: int
    candidate: int
    subset: tuple[int, ...]
    messages: Messages
    think: int
    answer: int
    tail: int
    shared: int
    sampling: SamplingParams
    passes: Pass = "tail"


@dataclass(frozen=True)
class Rollout:
    """What came of a request. thinking, answer: texts. tail: what it hands on, the last tokens of either.

    mean_logprob: natural logarithm, over the tokens that were sampled; None where the generator does not know it.
    seconds: wall time from submission to the end; decode_seconds: while it was generating. answer_was_cut: by its
    budget. error: what failed it, or cut it short. is_estimate: token counts are by our tokenizer, a server sent none.
    """

    stage: int
    candidate: int
    subset: tuple[int, ...]
    seed: int
    state: RolloutState
    thinking: str = ""
    answer: str = ""
    tail: str = ""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    thinking_tokens: int = 0
    completion_tokens: int = 0
    mean_logprob: float | None = None
    seconds: float = 0.0
    prompt_seconds: float = 0.0
    decode_seconds: float = 0.0
    answer_was_cut: bool = False
    error: str | None = None
    is_estimate: bool = False

    @property
    def is_sound(self) -> bool:
        """Whether its tail is worth showing to another rollout."""
        return self.state in ("done", "cut") and bool(self.tail.strip())

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "subset": list(self.subset)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Rollout:
        """The inverse of `as_json`. Raises TypeError, KeyError."""
        return cls(**{**value, "subset": tuple(value["subset"])})


@dataclass(frozen=True)
class RolloutStarted:
    """A rollout's prompt is being computed. prompt_tokens: 0 where the generator does not know."""

    stage: int
    candidate: int
    prompt_tokens: int = 0


@dataclass(frozen=True)
class RolloutText:
    """More tokens, and the text they settled (it may be empty). Fewer, below 0, correct an estimate."""

    stage: int
    candidate: int
    tokens: int
    kind: Literal["thinking", "answer"]
    text: str


@dataclass(frozen=True)
class RolloutMoved:
    """A rollout was parked for want of memory, or goes on."""

    stage: int
    candidate: int
    is_parked: bool


@dataclass(frozen=True)
class RolloutSilent:
    """A server has sent nothing for so many seconds."""

    stage: int
    candidate: int
    seconds: float


@dataclass(frozen=True)
class RolloutReturned:
    """A rollout was not run, since `context` has become smaller meanwhile: to be handed out again with less."""

    stage: int
    candidate: int


@dataclass(frozen=True)
class RolloutFinished:
    """The end of a rollout. cause: the exception that failed it, where there was one."""

    rollout: Rollout
    cause: Exception | None = None


RolloutEvent = RolloutStarted | RolloutText | RolloutMoved | RolloutSilent | RolloutReturned | RolloutFinished


def reason_of(error: Exception) -> str:
    """An exception as the reason of a failed rollout, in one line."""
    words = " ".join(redacted(str(error)).split())[:300]
    return words if isinstance(error, ZayaError) else f"{type(error).__name__}: {words or 'no details'}."


class Generator(Protocol):
    """Runs rollouts. All calls come from one thread.

    context: positions for prompt, thinking and answer; a server's may turn out to be smaller while it runs.
    """

    context: int

    def measure(self, question: Messages, aggregation: Messages) -> PromptSizes:
        """Count tokens of a problem's two kinds of prompt; the second with empty tails."""
        ...

    def submit(self, request: RolloutRequest) -> None:
        """Queue a rollout."""
        ...

    def advance(self) -> list[RolloutEvent]:
        """Do some work, or wait for a moment; what happened.

        A rollout's failure is its state. An exception loses rollouts: those of which the next calls bring nothing.
        """
        ...

    def stop(self) -> None:
        """End all open rollouts: they come back from `advance` as stopped, with what they have."""
        ...
