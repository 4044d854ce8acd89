"""A prompt that was answered by Markovian RSA: its figures, and the JSON of it and of what happened on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from zaya_cli.answer.answer_json import USAGE, answer_json, timings_json
from zaya_cli.answer.prompts import Prompt
from zaya_cli.rsa.answer import WatchedResult
from zaya_cli.rsa.generator import Source
from zaya_core.rsa import RsaResult
from zaya_core.rsa.events import BudgetsShrank, RsaEvent, RunStarted, StageFinished
from zaya_core.rsa.rollouts import Rollout, RolloutFinished, RolloutStarted
from zaya_core.rsa.selection import answer_of


@dataclass
class Answered:
    """One prompt's result with its figures."""

    prompt: Prompt
    watched: WatchedResult
    restored: int  # rollouts of an earlier run, which come first
    seed: int
    seconds: float
    seconds_to_first_token: float

    @property
    def fresh(self) -> Sequence[Rollout]:
        """The rollouts of this run."""
        return self.watched.result.rollouts[self.restored :]

    def as_json(self, source: Source, is_one_of_many: bool) -> dict[str, Any]:
        """The fields of a plain run, and `rsa`."""
        result = self.watched.result
        value = answer_json(
            text=result.text,
            thinking=result.thinking,
            finish_reason=self._finish_reason(),
            usage={name: sum(getattr(rollout, name) for rollout in result.rollouts) for name in USAGE},
            timings=self._timings(source),
            seed=self.seed,
            model=source.name,
            quant=source.quant,
            placement=source.placement,
            prompt=self.prompt,
            is_one_of_many=is_one_of_many,
        )
        if any(rollout.is_estimate for rollout in result.rollouts):
            value["usage"]["is_estimate"] = True
        return {**value, "rsa": _rsa_json(result)}

    def _timings(self, source: Source) -> dict[str, float]:
        tokens = sum(rollout.completion_tokens for rollout in self.fresh)
        prompt_seconds = sum(rollout.prompt_seconds for rollout in self.fresh)
        prefilled = sum(rollout.prompt_tokens - rollout.cached_tokens for rollout in self.fresh)
        decode_seconds = max(0.0, self.seconds - prompt_seconds)
        return timings_json(
            load=source.load_seconds,
            prompt=prompt_seconds,
            prompt_rate=prefilled / prompt_seconds if prompt_seconds else 0.0,
            first_token=self.seconds_to_first_token,
            decode=decode_seconds,
            decode_rate=tokens / decode_seconds if decode_seconds else 0.0,
            peak_memory=source.peak_memory_bytes(),
        )

    def _finish_reason(self) -> str:
        return "cancelled" if self.watched.stopped_by is not None else finish_reason(self.watched.result)

    def stats_line(self) -> str:
        """One line of figures for stderr."""
        rollouts = self.watched.result.rollouts
        tokens = sum(rollout.completion_tokens for rollout in rollouts)
        prompts = sum(rollout.prompt_tokens for rollout in rollouts)
        cached = sum(rollout.cached_tokens for rollout in rollouts)
        about = "~" if any(rollout.is_estimate for rollout in rollouts) else ""
        return (
            f"{len(rollouts)} rollouts · prompts {about}{prompts:,} tokens ({cached:,} reused) · "
            f"generated {about}{tokens:,} tokens ({tokens / self.seconds:.1f} tok/s) · {self.seconds:.1f} s · "
            f"seed {self.seed}"
        )


def finish_reason(result: RsaResult) -> Literal["length", "stop"]:
    """How the answer of a run that was not stopped ended."""
    return "length" if result.choice.rollout.answer_was_cut or not result.text.strip() else "stop"


def _rsa_json(result: RsaResult) -> dict[str, Any]:
    return {
        "settings": asdict(result.params),
        **vote_json(result),
        "candidates": [_rollout_json(rollout) for rollout in result.rollouts],
    }


def vote_json(result: RsaResult) -> dict[str, Any]:
    """Which candidate was chosen, and how many agree with it."""
    choice = result.choice
    return {
        "stage": result.stage,
        "candidate": choice.rollout.candidate,
        "answer": None if choice.answer is None else choice.answer.text,
        "agreeing": choice.agreeing,
        "of": choice.total,
        "is_complete": result.is_complete,
        "error": result.error,
    }


def _rollout_json(rollout: Any) -> dict[str, Any]:
    return {**rollout.as_json(), "extracted": extracted(rollout)}


def extracted(rollout: Rollout) -> str | None:
    """The answer that a rollout has come to, in the form in which answers are compared."""
    answer = answer_of(rollout)
    return None if answer is None else answer.normal


def event_json(event: RsaEvent) -> dict[str, Any] | None:
    """A line of `--format jsonl`; None for what it does not tell."""
    if isinstance(event, RunStarted):
        return {"event": "rsa_started", "settings": asdict(event.params), "restored": event.restored}
    if isinstance(event, BudgetsShrank):
        return {"event": "budgets_shrank", "settings": asdict(event.params), "context": event.context}
    if isinstance(event, RolloutStarted):
        return {"event": "rollout_started", "stage": event.stage, "candidate": event.candidate}
    if isinstance(event, RolloutFinished):
        return {"event": "rollout_finished", **_rollout_json(event.rollout)}
    if isinstance(event, StageFinished):
        return {"event": "stage_finished", "stage": event.stage, "agreeing": event.choice.agreeing}
    return None
