"""What an answer says of the run behind it, beside what every answer has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from zaya_cli.rsa.answered import extracted, vote_json
from zaya_cli.serve.protocol.answers.chat_teller import ChatTeller
from zaya_cli.serve.protocol.answers.teller import Chunk
from zaya_core.engine.events import Event, Finished, Stats
from zaya_core.rsa import RsaResult
from zaya_core.rsa.rollouts import Rollout
from zaya_core.rsa.selection import grouped


class RsaTeller(ChatTeller):
    """State: as a chat's, and the summary, which is to be there before the end is told."""

    summary: dict[str, Any] | None = None

    def take(self, index: int, event: Event) -> list[Chunk]:
        """See `Teller`; the summary comes with the reason of the end."""
        chunks = super().take(index, event)
        if isinstance(event, Finished):
            chunks[-1]["rsa"] = self.summary
        return chunks

    def answer(self) -> Chunk:
        """See `Teller`."""
        return {**super().answer(), "rsa": self.summary}


def summary_json(result: RsaResult, seed: int) -> dict[str, Any]:
    """The settings as the context allows, all candidates without their texts, and the vote. May take seconds."""
    votes = _votes(result)
    return {
        "params": asdict(result.params),
        "rounds": result.params.rounds,
        "candidates": [
            {**candidate_json(rollout), "votes": votes.get((rollout.stage, rollout.candidate), 0)}
            for rollout in result.rollouts
        ],
        "vote": vote_json(result),
        "seed": seed,
    }


def candidate_json(rollout: Rollout) -> dict[str, Any]:
    """A rollout that has ended."""
    return {
        "stage": rollout.stage,
        "candidate": rollout.candidate,
        "state": rollout.state,
        "tokens": rollout.completion_tokens,
        "answer": extracted(rollout),
    }


def _votes(result: RsaResult) -> dict[tuple[int, int], int]:
    """By stage and candidate: how many of the stage, itself included, have come to the same answer."""
    votes: dict[tuple[int, int], int] = {}
    for stage in range(result.params.stages):
        for group in grouped(rollout for rollout in result.rollouts if rollout.stage == stage).values():
            votes |= {(stage, rollout.candidate): len(group) for rollout in group}
    return votes


def stats_of(result: RsaResult, seconds: float, queue_seconds: float) -> Stats:
    """The figures of all rollouts as those of one request. seconds: from the first rollout's submission to the end."""
    prompt, cached, completion, thinking = (
        sum(getattr(rollout, name) for rollout in result.rollouts)
        for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "thinking_tokens")
    )
    prompt_seconds = sum(rollout.prompt_seconds for rollout in result.rollouts)
    return Stats(
        prompt_tokens=prompt,
        cached_tokens=cached,
        prefilled_tokens=prompt - cached,
        completion_tokens=completion,
        thinking_tokens=thinking,
        prompt_seconds=prompt_seconds,
        decode_seconds=max(0.0, seconds - prompt_seconds),
        seconds_to_first_token=0.0,
        peak_memory_bytes=0,
        queue_seconds=queue_seconds,
    )
