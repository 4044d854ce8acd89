"""Every flag of every command, defined once: name, environment variable, help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from zaya_cli.flags.completion import complete_model
from zaya_core.config.weight_formats import (
    DEFAULT_DENSE,
    EXPERT_FORMATS,
    DenseFormat,
    ExpertFormat,
    FastFormat,
    bits_of,
)

_MODEL, _SAMPLING, _OUTPUT, _LENGTH = "Model", "Sampling", "Output", "Length and thinking"


def _bits_of_each() -> str:
    *others, last = [f"{bits_of(name):g}" for name in EXPERT_FORMATS]
    return f"{', '.join(others)} or {last}"


Model = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", envvar="ZAYA_MODEL",
        help="A name that `zaya models` lists, a repository (OWNER/NAME or OWNER/NAME@REVISION), or a folder.",
        rich_help_panel=_MODEL, show_default="the best one here that fits", autocompletion=complete_model,
    ),
]  # fmt: skip
Device = Annotated[
    str,
    typer.Option("--device", envvar="ZAYA_DEVICE", help="auto, cpu or cuda (NVIDIA and AMD).", rich_help_panel=_MODEL),
]
Dtype = Annotated[
    str,
    typer.Option("--dtype", envvar="ZAYA_DTYPE", help="auto (as stored), bfloat16 or float32.", rich_help_panel=_MODEL),
]
KV = Annotated[
    Literal["auto", "int8"],
    typer.Option(
        "--kv", envvar="ZAYA_KV", rich_help_panel=_MODEL,
        help="Keys and values: auto (in the model's dtype), or int8, which halves their memory and their traffic.",
    ),
]  # fmt: skip
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", envvar="ZAYA_THREADS", help="CPU threads.", rich_help_panel=_MODEL,
        show_default="physical cores that this process may use",
    ),
]  # fmt: skip
Context = Annotated[
    int | None,
    typer.Option(
        "--ctx", "-c", envvar="ZAYA_CTX", help="Longest conversation in tokens.", rich_help_panel=_MODEL,
        show_default="the model's",
    ),
]  # fmt: skip
Quant = Annotated[
    ExpertFormat | None,
    typer.Option(
        "--quant", envvar="ZAYA_QUANT", help="Use the folder that `zaya quantize` made of the model.",
        rich_help_panel=_MODEL, show_default="the model as it is",
    ),
]  # fmt: skip
SourceModel = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", envvar="ZAYA_MODEL", help="Model folder or repository to quantize.", rich_help_panel=_MODEL,
        show_default="Zyphra/ZAYA1-8B",
    ),
]  # fmt: skip
QuantFormat = Annotated[
    ExpertFormat,
    typer.Option("--format", help=f"What the experts become: {_bits_of_each()} bits a weight."),
]
QuantDense = Annotated[
    DenseFormat,
    typer.Option("--dense", help="What attention, embedding and head become; bf16 leaves them as they are."),
]
Calibrate = Annotated[
    str | None,
    typer.Option(
        "--calibrate", metavar="FILE", show_default="a built-in text",
        help="Text (or .jsonl of question, thinking, answer) on which int4 is fitted; none does without.",
    ),
]  # fmt: skip
PullQuant = Annotated[
    FastFormat | None,
    typer.Option("--quant", help="Quantize what arrives: the format of the experts.", show_default="download only"),
]
PullDense = Annotated[
    DenseFormat | None,
    typer.Option(
        "--dense", help="With --quant: the format of attention, embedding and head; bf16 leaves them as they are.",
        show_default=DEFAULT_DENSE,
    ),
]  # fmt: skip
DiscardOriginals = Annotated[
    bool,
    typer.Option(
        "--discard-originals",
        help="With --quant: download outside the cache, and delete each downloaded file once it is quantized.",
    ),
]
QuantOut = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", help="Folder to make.", show_default="in $XDG_DATA_HOME/zaya/models, where --quant looks"
    ),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Compare sampled matrices with the source; of a folder that exists, only that.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Go on where a model does not fit into memory.", rich_help_panel=_MODEL)
]
PromptText = Annotated[
    str | None,
    typer.Option("--prompt", "-p", help="Text to ask; put in front of files or piped text. - reads standard input."),
]
System = Annotated[
    str | None, typer.Option("--system", "-s", envvar="ZAYA_SYSTEM", help="System message in front of the prompt.")
]
MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens", "-n", envvar="ZAYA_MAX_TOKENS", help="Generate at most so many tokens, thinking included.",
        rich_help_panel=_LENGTH, show_default="what the context leaves",
    ),
]  # fmt: skip
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", help="End the answer before this text (may be repeated).", rich_help_panel=_LENGTH),
]
ThinkingMode = Literal["show", "hide", "stderr", "off"]
Thinking = Annotated[
    ThinkingMode,
    typer.Option(
        "--thinking", envvar="ZAYA_THINKING",
        help="show it on a terminal, hide it, always write it to stderr, or turn it off.", rich_help_panel=_LENGTH,
    ),
]  # fmt: skip
ThinkingBudget = Annotated[
    int | None,
    typer.Option(
        "--thinking-budget", envvar="ZAYA_THINKING_BUDGET", help="Close the thinking after so many tokens.",
        rich_help_panel=_LENGTH, show_default="no limit",
    ),
]  # fmt: skip
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature", "-t", envvar="ZAYA_TEMPERATURE", help="0 always takes the likeliest token.",
        rich_help_panel=_SAMPLING, show_default="the model's, or 1.0",
    ),
]  # fmt: skip
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p", envvar="ZAYA_TOP_P", help="Keep the likeliest tokens up to this share; 0: only the likeliest.",
        rich_help_panel=_SAMPLING, show_default="the model's, or 0.95",
    ),
]  # fmt: skip
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k", envvar="ZAYA_TOP_K", help="Keep at most so many tokens; 0 is off.",
        rich_help_panel=_SAMPLING, show_default="the model's, or off",
    ),
]  # fmt: skip
MinP = Annotated[
    float | None,
    typer.Option(
        "--min-p", envvar="ZAYA_MIN_P", help="Keep tokens with this share of the likeliest one's probability.",
        rich_help_panel=_SAMPLING, show_default="the model's, or 1e-5",
    ),
]  # fmt: skip
RepeatPenalty = Annotated[
    float | None,
    typer.Option(
        "--repeat-penalty", envvar="ZAYA_REPEAT_PENALTY", help="Above 1 makes repetition less likely.",
        rich_help_panel=_SAMPLING, show_default="the model's, or off",
    ),
]  # fmt: skip
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", envvar="ZAYA_SEED", help="Same seed, same text.", rich_help_panel=_SAMPLING,
        show_default="random, printed by --stats",
    ),
]  # fmt: skip
TopLogprobs = Annotated[
    int | None,
    typer.Option(
        "--logprobs", min=0, max=20, help="With json or jsonl: log-probabilities, and so many alternatives.",
        rich_help_panel=_OUTPUT, show_default="none",
    ),
]  # fmt: skip
InfoFormat = Annotated[Literal["text", "json"], typer.Option("--format", help="text or json.", rich_help_panel=_OUTPUT)]
OutputFormat = Annotated[
    Literal["text", "json", "jsonl"],
    typer.Option("--format", help="text, one json object at the end, or events as jsonl.", rich_help_panel=_OUTPUT),
]
ShowStats = Annotated[
    bool, typer.Option("--stats", help="Print tokens, speed, memory and seed to stderr.", rich_help_panel=_OUTPUT)
]
Color = Annotated[
    Literal["auto", "always", "never"],
    typer.Option("--color", envvar="ZAYA_COLOR", help="Colour on stderr.", rich_help_panel=_OUTPUT),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.", rich_help_panel=_OUTPUT)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the last conversation.")]
KeepHistory = Annotated[
    bool,
    typer.Option(
        "--history/--no-history", envvar="ZAYA_HISTORY", help="Remember what is typed, and keep the conversation.",
    ),
]  # fmt: skip
