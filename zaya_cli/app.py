"""The commands and their flags. No work is done here, and nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from zaya_cli.completion import Shell, complete_model, completion_script, prepare_completion
from zaya_cli.failures import reported
from zaya_cli.flags import options
from zaya_cli.flags.bench import BenchSettings
from zaya_cli.flags.chat import ChatSettings
from zaya_cli.flags.doctor import DoctorSettings
from zaya_cli.flags.errors import wants_json
from zaya_cli.flags.groups import given_flags, with_groups
from zaya_cli.flags.pull import PullSettings
from zaya_cli.flags.quantize import QuantizeCommand
from zaya_cli.flags.run import RunSettings
from zaya_cli.flags.settings import (
    Setting,
    defaults_by_command,
    read_config_file,
    set_aside_unusable,
    settings_of,
    unknown_variables,
)
from zaya_cli.machine.versions import installed_version
from zaya_cli.serve.flags import ServeFlags
from zaya_cli.terminal.output import prepare_streams, write_answer, write_note
from zaya_cli.user_files import config_file, expect_current_folder
from zaya_core.errors import UsageError

app = typer.Typer(
    name="zaya",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        write_answer(f"zaya {installed_version() or '(not installed)'}\n")
        raise typer.Exit


models_app = typer.Typer()
app.add_typer(models_app, name="models")
config_app = typer.Typer(no_args_is_help=True)
app.add_typer(config_app, name="config")
_WITHOUT_CONFIG = ("config", "doctor", "completion", "models")  # must work when config.toml is damaged


@app.callback()
def root(
    ctx: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run Zyphra's ZAYA1-8B, an open reasoning model, on the computer you own.

    [bold]Examples[/bold]

      zaya run examples/sum.txt --model demo

      zaya pull

      zaya chat

      zaya doctor
    """
    if ctx.invoked_subcommand == "doctor":  # which says what is wrong, and does not end by it
        ctx.obj = set_aside_unusable(all_settings(), "doctor")
    asks_for_help = bool({"-h", "--help"} & set(sys.argv))
    if ctx.invoked_subcommand not in _WITHOUT_CONFIG and not asks_for_help:
        expect_current_folder()
        settings = all_settings()
        for sentence in unknown_variables(settings):
            write_note(f"zaya: {sentence}")
        ctx.default_map = defaults_by_command(read_config_file(config_file(), settings), settings)


def all_settings() -> dict[str, Setting]:
    """What a variable or config.toml can set, from the flags of all commands."""
    from typer.main import get_command

    return settings_of(get_command(app).commands)  # type: ignore[attr-defined]


@app.command()
@with_groups
def run(settings: RunSettings) -> None:
    """Answer prompts once: the answer on stdout, everything else on stderr.

    [bold]Examples[/bold]

      zaya run question.txt

      zaya run -p "What is 17 * 23?" --thinking stderr --stats

      git diff | zaya run -p "Review this change:" > review.md

      zaya run examples/*.txt --format jsonl --seed 1

      zaya run hard.txt --rsa 8
    """
    with reported(as_json=settings.format != "text"):
        from zaya_cli.commands.run import run as command

        command(settings)


@app.command()
@with_groups
def chat(settings: ChatSettings) -> None:
    """Talk with the model. Ctrl-C stops an answer and keeps it; Ctrl-D leaves.

    [bold]Examples[/bold]

      zaya chat

      zaya chat --system "Answer in French." --thinking hide

      zaya chat --resume
    """
    with reported():
        from zaya_cli.commands.chat import chat as command

        command(settings)


@app.command()
@with_groups
def serve(flags: ServeFlags) -> None:
    """Let other programs use the model: an HTTP server that speaks OpenAI's API, for this machine alone unless told so.

    Needs the extra `serve`. Ctrl-C or SIGTERM lets running answers end, within --drain; a second one ends at once.

    [bold]Examples[/bold]

      zaya serve

      zaya serve --model demo --port 9000

      zaya serve --host 0.0.0.0 --api-key-file keys.txt --allowed-host gpu.example.com
    """
    with reported():
        from zaya_cli.commands.serve import serve as command

        command(flags)


@app.command()
@with_groups
def pull(settings: PullSettings) -> None:
    """Download a model into the Hugging Face cache. An interrupted download goes on where it stopped.

    Says before the download whether the disk has room and in which format the model fits into memory. Checksums are
    verified. The folder is printed on stdout. HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are respected.

    With --quant every file is quantized as it arrives, to what `zaya quantize` would make of the whole.

    [bold]Examples[/bold]

      zaya pull --dry-run

      zaya pull

      zaya pull --quant int4 --discard-originals && zaya chat --quant int4

      zaya pull Zyphra/ZAYA1-base

      HF_HOME=/big/disk zaya pull Zyphra/ZAYA1-8B --revision main
    """
    with reported():
        from zaya_cli.commands.pull import pull as command

        command(settings)


@models_app.callback(invoke_without_command=True)
def models(ctx: typer.Context) -> None:
    """List, remove and verify the models on this machine.

    [bold]Examples[/bold]

      zaya models

      zaya models verify

      zaya models rm Zyphra/ZAYA1-base
    """
    if ctx.invoked_subcommand is None:
        models_list()


@models_app.command("list")
def models_list(format: options.InfoFormat = "text") -> None:
    """Show names, formats, sizes and memory, and which model is taken without --model (marked *).

    [bold]Examples[/bold]

      zaya models list --format json
    """
    with reported(as_json=format == "json"):
        from zaya_cli.commands.models import list_models

        list_models(format)


@models_app.command("rm")
def models_rm(
    name: Annotated[str, typer.Argument(help="As `zaya models` lists it.", autocompletion=complete_model)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
) -> None:
    """Delete a downloaded or quantized model, or an unfinished download.

    [bold]Examples[/bold]

      zaya models rm Zyphra/ZAYA1-base --dry-run

      zaya models rm Zyphra/ZAYA1-base --yes
    """
    with reported():
        from zaya_cli.commands.models import remove_model

        remove_model(name, yes, dry_run)


@models_app.command("verify")
def models_verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="As `zaya models` lists them; all without.", autocompletion=complete_model),
    ] = None,
    remove_damaged: Annotated[
        bool, typer.Option("--remove-damaged", help="Delete damaged files, so that `zaya pull` fetches them again.")
    ] = False,
) -> None:
    """Compare the files with their checksums. Needs no network.

    [bold]Examples[/bold]

      zaya models verify

      zaya models verify Zyphra/ZAYA1-8B --remove-damaged || zaya pull
    """
    with reported():
        from zaya_cli.commands.models import verify_models

        verify_models(names or (), remove_damaged)


@app.command()
@with_groups
def doctor(ctx: typer.Context, settings: DoctorSettings) -> None:
    """Say what this machine and installation can do; a block to paste into a bug report.

    Device and why not another, kernels, memory for each format and context, disk, models, versions, a self-test.
    With --model: whether everything is right with that model here, in about a minute: files, stored numbers, tokens,
    known ids, perplexity, routers, agreement with float32, speed, memory. Ends with 1 if something is wrong.

    [bold]Examples[/bold]

      zaya doctor

      zaya doctor --device cuda --no-self-test

      zaya doctor --model Zyphra/ZAYA1-8B --quant int4
    """
    with reported(as_json=settings.format == "json"):
        if settings.asks_for_model(given_flags(ctx)):
            from zaya_cli.commands.checkup import check_model

            if ctx.obj:
                raise UsageError(ctx.obj[0])
            check_model(settings)
        else:
            from zaya_cli.commands.doctor import doctor as command

            command(all_settings(), ctx.obj or (), settings.runtime.device, settings.run_self_test, settings.format)


@config_app.callback()
def config() -> None:
    """Show the settings in effect, and where each comes from.

    [bold]Examples[/bold]

      zaya config show

      zaya config path
    """


@config_app.command("show")
def config_show(format: options.InfoFormat = "text") -> None:
    """Print every setting, its value and who set it.

    A flag wins over a ZAYA_* variable, that over config.toml, that over the model's generation_config.json, that over
    the built-in default.

    [bold]Examples[/bold]

      zaya config show

      zaya config show --format json
    """
    with reported(as_json=format == "json"):
        from zaya_cli.commands.config import show_config

        show_config(all_settings(), format)


@config_app.command("path")
def config_path() -> None:
    """Print where config.toml is, or would be.

    [bold]Examples[/bold]

      ${EDITOR:-nano} "$(zaya config path)"
    """
    with reported():
        write_answer(f"{config_file()}\n")


@app.command()
@with_groups
def bench(ctx: typer.Context, settings: BenchSettings) -> None:
    """Measure how fast a model runs here: prefill and decode, beside what the memory allows.

    [bold]Examples[/bold]

      zaya bench --dummy

      zaya bench --dummy --quant int4 --dense int4 -p 512 -n 64 -d 0,4096 -b 1,8

      zaya bench --model demo -n 32 --format json
    """
    with reported(as_json=settings.format in ("json", "jsonl")):
        from zaya_cli.commands.bench import bench as command

        source = ctx.get_parameter_source("model")
        if settings.dummy and (source is None or source.name != "COMMANDLINE"):
            settings = replace(settings, model=None)  # that of a variable or a file is meant for commands that need one
        command(settings)


@app.command()
def completion(shell: Annotated[Shell, typer.Argument(help="The shell to complete in.")]) -> None:
    """Print the script that completes commands, flags and names of models in a shell.

    [bold]Examples[/bold]

      zaya completion bash >> ~/.bashrc

      zaya completion zsh > ~/.zfunc/_zaya

      zaya completion fish > ~/.config/fish/completions/zaya.fish

      zaya completion powershell >> $PROFILE
    """
    with reported():
        write_answer(f"{completion_script(shell)}\n")


@app.command()
def info(
    folder: Annotated[Path | None, typer.Argument(help="Model folder; without it, that of --model.")] = None,
    model: options.Model = None,
    format: options.InfoFormat = "text",
) -> None:
    """Show what a model folder holds: layout, sizes, parameters, bytes by part. Reads headers only.

    [bold]Examples[/bold]

      zaya info ~/models/ZAYA1-8B

      zaya info --model Zyphra/ZAYA1-8B --format json
    """
    with reported(as_json=format == "json"):
        from zaya_cli.commands.info import info as command

        command(str(folder) if folder is not None else model, format)


@app.command()
@with_groups
def quantize(settings: QuantizeCommand) -> None:
    """Make a smaller folder of a model. A run that was stopped goes on where it was.

    [bold]Examples[/bold]

      zaya quantize && zaya chat --quant int4

      zaya quantize --model ~/models/ZAYA1-8B --format int8 --out ~/models/ZAYA1-8B-int8 --verify
    """
    with reported():
        from zaya_cli.commands.quantize import quantize as command

        command(settings)


def main() -> None:
    """Entry point of the console script."""
    prepare_streams()
    prepare_completion()
    with reported(as_json=wants_json(sys.argv)):
        try:
            code = app(standalone_mode=False)  # its errors, too, are told by `reported`
        finally:
            sys.stdout.flush()  # while there is still somebody to tell that it could not be written
        raise SystemExit(code)


if __name__ == "__main__":
    main()
