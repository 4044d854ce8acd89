"""The flags of Markovian RSA, and the parameters they make."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from zaya_cli.user_files import from_home
from zaya_core.errors import UsageError

if TYPE_CHECKING:
    from zaya_core.rsa.params import RsaParams
    from zaya_core.rsa.prompt import Aggregation
    from zaya_core.rsa.prompt_file import PromptFile

_PANEL = "Markovian RSA"


@dataclass(frozen=True)
class RsaFlags:
    """`--rsa` and its like, as given; None is not given."""

    rsa: Annotated[
        int | None,
        typer.Option(
            "--rsa", metavar="N", rich_help_panel=_PANEL,
            help="Answer by Markovian RSA with N candidates: they think, then each thinks again over others' ends.",
        ),
    ] = None  # fmt: skip
    rsa_preset: Annotated[
        Literal["light", "default", "high", "xhigh"] | None,
        typer.Option(
            "--rsa-preset", rich_help_panel=_PANEL,
            help="The technical report's settings; other --rsa flags change them.",
        ),
    ] = None  # fmt: skip
    rsa_rounds: Annotated[
        int | None,
        typer.Option(
            "--rsa-rounds", metavar="T", help="Rounds of aggregation after the first attempts.",
            rich_help_panel=_PANEL, show_default="2",
        ),
    ] = None  # fmt: skip
    rsa_subset: Annotated[
        int | None,
        typer.Option(
            "--rsa-subset", metavar="C", help="Attempts shown to each candidate of a later round.",
            rich_help_panel=_PANEL, show_default="4",
        ),
    ] = None  # fmt: skip
    rsa_think: Annotated[
        int | None,
        typer.Option(
            "--rsa-think", metavar="TOKENS", help="Close each thought after so many tokens.", rich_help_panel=_PANEL,
            show_default="16384",
        ),
    ] = None  # fmt: skip
    rsa_tail: Annotated[
        int | None,
        typer.Option(
            "--rsa-tail", metavar="TOKENS", help="So many last tokens of a thought or an answer are shown to others.",
            rich_help_panel=_PANEL, show_default="4096",
        ),
    ] = None  # fmt: skip
    rsa_pass: Annotated[
        Literal["tail", "answer", "auto"] | None,
        typer.Option(
            "--rsa-pass", rich_help_panel=_PANEL, show_default="auto; demo: tail",
            help="What others are shown: the end of a thought, its answer, or the answer of a thought that ended by "
            "itself and the end of any other.",
        ),
    ] = None  # fmt: skip
    rsa_prompt: Annotated[
        Path | None,
        typer.Option(
            "--rsa-prompt", metavar="FILE", rich_help_panel=_PANEL,
            help="A Jinja template of the prompt that shows attempts: question, candidates (a list), n.",
        ),
    ] = None  # fmt: skip
    rsa_answer: Annotated[
        int | None,
        typer.Option(
            "--rsa-answer", metavar="TOKENS", help="Length limit of a final answer.", rich_help_panel=_PANEL,
            show_default="8192",
        ),
    ] = None  # fmt: skip
    rsa_select: Annotated[
        Literal["agreement", "first", "aggregate"] | None,
        typer.Option(
            "--rsa-select", rich_help_panel=_PANEL, show_default="agreement",
            help="The answer most candidates agree on, the first one, or one more attempt over the last round "
            "(at temperature 0.6, top-p 0.95, top-k 40 unless set).",
        ),
    ] = None  # fmt: skip
    rsa_stop_at: Annotated[
        float | None,
        typer.Option(
            "--rsa-stop-at", metavar="SHARE", rich_help_panel=_PANEL, show_default="off",
            help="End as soon as this share of a round's candidates agrees (0.75); every round answers then.",
        ),
    ] = None  # fmt: skip
    rsa_save: Annotated[
        Path | None,
        typer.Option(
            "--rsa-save", metavar="DIR", rich_help_panel=_PANEL,
            help="Keep the state after each round, and go on from it.",
        ),
    ] = None  # fmt: skip
    rsa_parallel: Annotated[
        int | None,
        typer.Option(
            "--rsa-parallel", metavar="ROWS", rich_help_panel=_PANEL, show_default="16",
            help="Run at most so many candidates at once; memory may allow fewer.",
        ),
    ] = None  # fmt: skip
    rsa_pipeline: Annotated[
        bool,
        typer.Option(
            "--rsa-pipeline", rich_help_panel=_PANEL,
            help="Start a candidate as soon as the attempts it shows exist, not when the round before is over.",
        ),
    ] = False  # fmt: skip
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", metavar="URL", rich_help_panel=_PANEL,
            help="Let an OpenAI-compatible server generate (vLLM, SGLang ...); --model gives the tokenizer.",
        ),
    ] = None  # fmt: skip
    endpoint_model: Annotated[
        str | None,
        typer.Option(
            "--endpoint-model", metavar="NAME", rich_help_panel=_PANEL, help="The model's name on that server.",
            show_default="the only one it lists, or the one named zaya",
        ),
    ] = None  # fmt: skip

    @property
    def is_wanted(self) -> bool:
        """Whether RSA is asked for. Raises UsageError for flags that mean nothing without it."""
        if self.rsa is not None or self.rsa_preset is not None:
            return True
        given = [name for name, value in vars(self).items() if value is not None and value is not False]
        if given:
            flag = "--" + given[0].replace("_", "-")
            raise UsageError(f"{flag} is for Markovian RSA: add --rsa N, such as --rsa 8.")
        return False

    @property
    def parallel(self) -> int:
        """Candidates at once. Raises UsageError."""
        if self.rsa_parallel is not None and not 1 <= self.rsa_parallel <= 1024:
            raise UsageError(f"--rsa-parallel is {self.rsa_parallel}; it must be from 1 to 1024.")
        return self.rsa_parallel or 16

    def params(self, aggregation: Aggregation | None = None) -> RsaParams:
        """The preset, or the defaults, changed by what is given; a model's `aggregation` says what is handed on.

        Raises UsageError.
        """
        from zaya_core.rsa.params import PRESETS, RsaParams

        self._check_numbers()
        base = RsaParams() if self.rsa_preset is None else PRESETS[self.rsa_preset]
        given: dict[str, Any] = {
            "candidates": self.rsa,
            "rounds": self.rsa_rounds,
            "subset": self.rsa_subset,
            "think": self.rsa_think,
            "tail": self.rsa_tail,
            "answer": self.rsa_answer,
            "select": self.rsa_select,
            "stop_at": self.rsa_stop_at,
            "passes": self.rsa_pass or (aggregation and aggregation.passes),
        }
        changes = {name: value for name, value in given.items() if value is not None}
        return replace(base, **changes, pipelined=self.rsa_pipeline)

    def _check_numbers(self) -> None:
        """Under the flags' names; `RsaParams` knows only its own."""
        from zaya_core.rsa.params import LEAST, MOST

        for name, least in LEAST.items():
            field = "rsa" if name == "candidates" else f"rsa_{name}"
            value, flag = getattr(self, field), "--" + field.replace("_", "-")
            if value is not None and value < least:
                raise UsageError(f"{flag} must be at least {least} (got {value}).")
            if value is not None and value > MOST:
                raise UsageError(f"{flag} must be at most {MOST:,} (got {value:,}).")
        if self.rsa_stop_at is not None and not 0 < self.rsa_stop_at <= 1:
            raise UsageError(
                f"--rsa-stop-at must be above 0 and at most 1 (got {self.rsa_stop_at:g}): 0.75 is three quarters."
            )

    def own_prompt(self) -> PromptFile | None:
        """The template of `--rsa-prompt`. Raises UsageError."""
        from zaya_core.rsa.prompt_file import PromptFile

        return None if self.rsa_prompt is None else PromptFile(from_home(self.rsa_prompt), self.params().tails)
