"""The settings of an answer, and the request they make."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zaya_cli.flags.options import ThinkingMode
from zaya_cli.terminal.output import write_note

if TYPE_CHECKING:
    from zaya_core.engine.engine import Request
    from zaya_core.sampling.params import SamplingParams
    from zaya_core.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class GenerationSettings:
    """None means: as the model's generation_config says, or the built-in default."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    thinking: ThinkingMode = "show"
    thinking_budget: int | None = None
    top_logprobs: int | None = None

    def sampling(self, folder: Path) -> SamplingParams:
        """Flags over the folder's defaults, with a random seed where none was given. Raises UsageError."""
        from zaya_core.engine.generation_config import sampling_defaults

        self.say_if_greedy_by_top_p()
        return replace(sampling_defaults(folder), **self.given_sampling(), seed=self.seed_or_random())

    def say_if_greedy_by_top_p(self) -> None:
        """Other programs refuse a share of 0, or take it for "off"."""
        if self.top_p == 0:
            write_note("zaya: top-p 0 keeps the likeliest token only, as temperature 0 does.")

    def given_sampling(self) -> dict[str, Any]:
        """The sampling settings that flags gave, without the seed."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def seed_or_random(self) -> int:
        """The seed that was given, or a new one."""
        return secrets.randbits(32) if self.seed is None else self.seed

    def request(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Mapping[str, object]],
        sampling: SamplingParams,
        candidate: int = 0,
    ) -> Request:
        """Render the messages and ask for an answer."""
        from zaya_core.engine.engine import Request

        return Request(
            ids=tokenizer.render_chat(messages, enable_thinking=self.thinking != "off"),
            sampling=sampling,
            max_tokens=self.max_tokens,
            stop=self.stop,
            thinking_budget=self.thinking_budget,
            top_logprobs=self.top_logprobs or 0,
            candidate=candidate,
        )
