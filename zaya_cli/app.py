"""The commands and their flags. No work is done here, and nothing heavy is imported before a command runs."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from zaya_cli import options
from zaya_cli.failures import reported
from zaya_cli.flag_groups import with_flags
from zaya_cli.output import prepare_streams
from zaya_cli.rsa_options import RsaFlags

app = typer.Typer(
    name="zaya",
    help="Run Zyphra's ZAYA1-8B, an open reasoning model, on the computer you own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"zaya {version('zaya')}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run Zyphra's ZAYA1-8B, an open reasoning model, on the computer you own."""


@app.command()
@with_flags("rsa", RsaFlags)
def run(
    files: Annotated[list[str] | None, typer.Argument(help="Text files, one prompt each. - is standard input.")] = None,
    prompt: options.PromptText = None,
    system: options.System = None,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    context: options.Context = None,
    max_tokens: options.MaxTokens = None,
    stop: options.Stop = None,
    thinking: options.Thinking = "show",
    thinking_budget: options.ThinkingBudget = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    repeat_penalty: options.RepeatPenalty = None,
    seed: options.Seed = None,
    format: options.OutputFormat = "text",
    logprobs: options.TopLogprobs = None,
    stats: options.ShowStats = False,
    color: options.Color = "auto",
    quiet: options.Quiet = False,
    rsa: RsaFlags = RsaFlags(),  # noqa: B008 - replaced by its flags
) -> None:
    """Answer prompts once: the answer on stdout, everything else on stderr.

    [bold]Examples[/bold]

      zaya run question.txt

      zaya run -p "What is 17 * 23?" --thinking stderr --stats

      git diff | zaya run -p "Review this change:" > review.md

      zaya run examples/*.txt --format jsonl --seed 1

      zaya run hard.txt --rsa 8
    """
    with reported(as_json=format != "text"):
        from zaya_cli.cmd_run import RunSettings
        from zaya_cli.cmd_run import run as command
        from zaya_cli.generation import GenerationSettings
        from zaya_cli.runtime import RuntimeSettings

        command(
            RunSettings(
                files=tuple(files or ()),
                text=prompt,
                system=system,
                runtime=RuntimeSettings(model, device, dtype, threads, context),
                generation=GenerationSettings(
                    temperature, top_p, top_k, min_p, repeat_penalty, seed, max_tokens, tuple(stop or ()),
                    thinking, thinking_budget, logprobs,
                ),
                format=format, stats=stats, color=color, quiet=quiet, rsa=rsa,
            )
        )  # fmt: skip


@app.command()
def chat(
    system: options.System = None,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
    context: options.Context = None,
    max_tokens: options.MaxTokens = None,
    thinking: options.Thinking = "show",
    thinking_budget: options.ThinkingBudget = None,
    temperature: options.Temperature = None,
    top_p: options.TopP = None,
    top_k: options.TopK = None,
    min_p: options.MinP = None,
    repeat_penalty: options.RepeatPenalty = None,
    seed: options.Seed = None,
    stats: options.ShowStats = False,
    color: options.Color = "auto",
) -> None:
    """Talk with the model. Ctrl-C stops an answer and keeps it; Ctrl-D leaves.

    [bold]Examples[/bold]

      zaya chat

      zaya chat --system "Answer in French." --thinking hide
    """
    with reported():
        from zaya_cli.cmd_chat import ChatSettings
        from zaya_cli.cmd_chat import chat as command
        from zaya_cli.generation import GenerationSettings
        from zaya_cli.runtime import RuntimeSettings

        command(
            ChatSettings(
                system=system,
                runtime=RuntimeSettings(model, device, dtype, threads, context),
                generation=GenerationSettings(
                    temperature, top_p, top_k, min_p, repeat_penalty, seed, max_tokens, (), thinking, thinking_budget
                ),
                stats=stats,
                color=color,
            )
        )


@app.command()
def info(
    folder: Annotated[Path | None, typer.Argument(help="Model folder; without it, that of --model.")] = None,
    model: options.Model = None,
    format: Annotated[options.InfoFormat, typer.Option("--format", help="text or json.")] = "text",
) -> None:
    """Show what a model folder holds: layout, sizes, parameters, bytes by part. Reads headers only.

    [bold]Examples[/bold]

      zaya info ~/models/ZAYA1-8B

      zaya info --model Zyphra/ZAYA1-8B --format json
    """
    with reported(as_json=format == "json"):
        from zaya_cli.cmd_info import info as command

        command(str(folder) if folder is not None else model, format)


def main() -> None:
    """Entry point of the console script."""
    prepare_streams()
    with reported():
        app()


if __name__ == "__main__":
    main()
