"""The settings of an answer, their flags, and the request they make."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zaya_cli.terminal.output import write_note

if TYPE_CHECKING:
    from zaya_core.checkpoint.folder import ModelFolder
    from zaya_core.engine.engine import Request
    from zaya_core.sampling.params import SamplingParams
    from zaya_core.text.tokenizer import Tokenizer

ThinkingMode = Literal["show", "hide", "stderr", "off"]
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")  # fields of SamplingParams with a flag
_LENGTH_PANEL, _SAMPLING_PANEL = "Length and thinking", "Sampling"


@dataclass(frozen=True)
class GenerationSettings:
    """None means: as the model's generation_config says, or the built-in default."""

    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", "-n", envvar="ZAYA_MAX_TOKENS", help="Generate at most so many tokens, thinking included.",
            rich_help_panel=_LENGTH_PANEL, show_default="what the context leaves",
        ),
    ] = None  # fmt: skip
    stop: Annotated[
        list[str] | None,
        typer.Option(
            "--stop", help="End the answer before this text (may be repeated).", rich_help_panel=_LENGTH_PANEL
        ),
    ] = None
    thinking: Annotated[
        ThinkingMode,
        typer.Option(
            "--thinking", envvar="ZAYA_THINKING", rich_help_panel=_LENGTH_PANEL,
            help="show it on a terminal, hide it, always write it to stderr, or turn it off.",
        ),
    ] = "show"  # fmt: skip
    thinking_budget: Annotated[
        int | None,
        typer.Option(
            "--thinking-budget", envvar="ZAYA_THINKING_BUDGET", help="Close the thinking after so many tokens.",
            rich_help_panel=_LENGTH_PANEL, show_default="no limit",
        ),
    ] = None  # fmt: skip
    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature", "-t", envvar="ZAYA_TEMPERATURE", help="0 always takes the likeliest token.",
            rich_help_panel=_SAMPLING_PANEL, show_default="the model's, or 1.0",
        ),
    ] = None  # fmt: skip
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p", envvar="ZAYA_TOP_P", help="Keep the likeliest tokens up to this share; 0: only the likeliest.",
            rich_help_panel=_SAMPLING_PANEL, show_default="the model's, or 0.95",
        ),
    ] = None  # fmt: skip
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k", envvar="ZAYA_TOP_K", help="Keep at most so many tokens; 0 is off.",
            rich_help_panel=_SAMPLING_PANEL, show_default="the model's, or off",
        ),
    ] = None  # fmt: skip
    min_p: Annotated[
        float | None,
        typer.Option(
            "--min-p", envvar="ZAYA_MIN_P", help="Keep tokens with this share of the likeliest one's probability.",
            rich_help_panel=_SAMPLING_PANEL, show_default="the model's, or 1e-5",
        ),
    ] = None  # fmt: skip
    repetition_penalty: Annotated[
        float | None,
        typer.Option(
            "--repeat-penalty", envvar="ZAYA_REPEAT_PENALTY", help="Above 1 makes repetition less likely.",
            rich_help_panel=_SAMPLING_PANEL, show_default="the model's, or off",
        ),
    ] = None  # fmt: skip
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", envvar="ZAYA_SEED", help="Same seed, same text.", rich_help_panel=_SAMPLING_PANEL,
            show_default="random, printed by --stats",
        ),
    ] = None  # fmt: skip

    @property
    def stop_texts(self) -> tuple[str, ...]:
        """What ends the answer."""
        return tuple(self.stop or ())

    def sampling(self, folder: ModelFolder) -> SamplingParams:
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
        return {name: value for name in SAMPLING if (value := getattr(self, name)) is not None}

    def seed_or_random(self) -> int:
        """The seed that was given, or a new one."""
        return secrets.randbits(32) if self.seed is None else self.seed

    def request(
        self,
        tokenizer: Tokenizer,
        messages: Sequence[Mapping[str, object]],
        sampling: SamplingParams,
        candidate: int = 0,
        top_logprobs: int = 0,
    ) -> Request:
        """Render the messages and ask for an answer."""
        from zaya_core.engine.engine import Request

        return Request(
            ids=tokenizer.render_chat(messages, enable_thinking=self.thinking != "off"),
            sampling=sampling,
            max_tokens=self.max_tokens,
            stop=self.stop_texts,
            thinking_budget=self.thinking_budget,
            top_logprobs=top_logprobs,
            candidate=candidate,
        )
