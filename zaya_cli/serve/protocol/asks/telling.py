"""How an answer is to be told: at once or as a stream, and what beside it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zaya_cli.serve.protocol.fields import Rule, flag, table
from zaya_cli.serve.protocol.served import Served

TELLING: dict[str, Rule] = {
    "stream": flag,
    "stream_options": table({"include_usage": flag, "continuous_usage_stats": flag, "include_obfuscation": flag}),
    "return_progress": flag,
    "timings_per_token": flag,
}


@dataclass(frozen=True)
class Telling:
    """What the client asked for, and what each answer or chunk names.

    has_usage, has_running_usage: figures in the last chunk, and in each. has_progress: how much of the prompt has been
    computed. has_timings: in each chunk, too.
    """

    model: str
    fingerprint: str
    seed: int
    is_stream: bool
    has_logprobs: bool
    has_usage: bool
    has_running_usage: bool
    has_progress: bool
    has_timings: bool
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def needs_tokens(self) -> bool:
        """Whether each token counts, not only the text."""
        return self.has_logprobs or (self.is_stream and (self.has_running_usage or self.has_timings))

    def frame(self, id_: str, kind: str) -> dict[str, Any]:
        """What each object begins with."""
        return {
            "id": id_,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def telling_of(fields: Mapping[str, Any], served: Served, seed: int, has_logprobs: bool) -> Telling:
    """From the fields in TELLING."""
    options = fields.get("stream_options", {})
    return Telling(
        model=served.name,
        fingerprint=served.fingerprint,
        seed=seed,
        is_stream=fields.get("stream", False),
        has_logprobs=has_logprobs,
        has_usage=options.get("include_usage", False),
        has_running_usage=options.get("continuous_usage_stats", False),
        has_progress=fields.get("return_progress", False),
        has_timings=fields.get("timings_per_token", False),
    )
