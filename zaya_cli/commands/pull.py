"""`zaya pull`: download a model into the cache of huggingface_hub, after saying whether it will run here.

With --quant it is quantized while it arrives, see `pulling.quantized`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from threading import Event

from rich.console import Console

from zaya_cli.commands.pulling.plan import announced_plan, expect_model
from zaya_cli.commands.pulling.snapshot import fetch_all, link_snapshot
from zaya_cli.flags.pull import PullSettings
from zaya_cli.flags.quantize import QuantizeCommand
from zaya_cli.models import hub
from zaya_cli.models.download import Fetcher
from zaya_cli.models.folder import DEFAULT_REPO, bundled_names
from zaya_cli.models.found import FoundModel
from zaya_cli.models.locks import downloading, downloading_alone
from zaya_cli.models.names import expect_supported, repo_of
from zaya_cli.models.quantized_folder import SourceName, default_out
from zaya_cli.terminal.output import stderr_console, stdout_console, write_answer
from zaya_core.errors import ModelNotFoundError, UsageError
from zaya_core.files.write_errors import why_not_writable


def pull(settings: PullSettings) -> None:
    """Print the plan, download what is missing, print the folder on stdout.

    Raises the errors of the Hub and the disk, MemoryFitError for a model that no format makes fit, and Interrupted
    after Ctrl-C; what has arrived is kept in each case.
    """
    from huggingface_hub.utils import disable_progress_bars

    settings.expect_consistent()
    disable_progress_bars()  # this command has its own
    repo, _, revision = repo_of(settings.repo or DEFAULT_REPO).partition("@")
    if repo in bundled_names():
        raise UsageError(f"{repo} is part of the program: use it with --model {repo}, there is nothing to download.")
    expect_supported(repo)
    settings = replace(settings, repo=repo, revision=_revision(settings, revision))
    if (obstacle := why_not_writable(hub.cache_root())) is not None and not settings.dry_run:
        variable = next((one for one in ("HF_HUB_CACHE", "HF_HOME") if os.environ.get(one)), "HF_HOME")
        raise UsageError(
            f"{hub.cache_root()} cannot be written ({obstacle}): set {variable} to a folder that you may write to."
        )
    folder = _offline(repo, settings) if hub.is_offline() else _online(repo, settings)
    if folder is not None:
        write_answer(f"{folder}\n")


def _revision(settings: PullSettings, named: str) -> str:
    """That of --revision, or what the name of the repository ends with. Raises UsageError where they differ."""
    if not named or settings.revision == named:
        return settings.revision
    if settings.revision != hub.DEFAULT_REVISION:
        raise UsageError(f"{settings.repo} names the revision {named}, and --revision {settings.revision}: give one.")
    return named


def _offline(repo: str, settings: PullSettings) -> Path:
    wanted = settings.quantization
    if wanted is None:
        return _already_here(repo, settings.revision)
    if (made := _made_before(repo, None, wanted)) is not None:
        return made
    from zaya_cli.commands.pulling.quantized import quantize_cached

    folder = _already_here(repo, settings.revision)
    return quantize_cached(wanted, folder, SourceName(repo, folder.name), _console(settings))


def _online(repo: str, settings: PullSettings) -> Path | None:
    """The folder; None after a dry run."""
    listing = hub.list_files(repo, settings.revision)
    expect_model(listing)
    wanted = settings.quantization
    if wanted is not None and (made := _made_before(repo, listing.commit, wanted)) is not None:
        return made
    fetcher = Fetcher(listing, lambda count: None, Event())
    plan = announced_plan(fetcher, settings, _console(settings))
    if settings.dry_run:
        return None
    plan.expect_possible(settings)
    return _fetched(fetcher, settings) if wanted is None else _quantized(fetcher, settings, wanted)


def _made_before(repo: str, commit: str | None, wanted: QuantizeCommand) -> Path | None:
    """The result, if it is there. Raises UsageError if it was made from another revision."""
    out = default_out(SourceName(repo, commit), wanted.format, wanted.dense)
    if not (out / "config.json").is_file():
        return None
    quantization = FoundModel(out.name, out).config.quantization
    source = {} if quantization is None else quantization.facts.get("source")
    made_from = source.get("revision") if isinstance(source, dict) else None
    if commit is not None and made_from != commit:
        raise UsageError(
            f"{out} was made from revision {str(made_from)[:8]}, not from {commit[:8]}: "
            f"`zaya models rm {out.name}` removes it."
        )
    return out


def _quantized(fetcher: Fetcher, settings: PullSettings, wanted: QuantizeCommand) -> Path:
    """Quantize as it arrives what is not here yet, where the file system lets one."""
    from zaya_cli.commands.pulling.quantized import can_stage, quantize_arriving, quantize_cached

    listing, console = fetcher.listing, _console(settings)
    name = SourceName(listing.repo, listing.commit)
    is_here = all(fetcher.is_finished(file) for file in listing.files if file.path.endswith(".safetensors"))
    if not is_here and can_stage(default_out(name, wanted.format, wanted.dense)):
        with downloading_alone(listing.repo):
            out = quantize_arriving(wanted, fetcher, settings.discards, console)
            if not settings.discards:
                link_snapshot(listing)
        return out
    if not is_here and settings.discards:
        raise UsageError(
            "--discard-originals needs a file system with sparse files and symbolic links for the quantized folders: "
            "set XDG_DATA_HOME to a folder on another disk, or leave --discard-originals out."
        )
    return quantize_cached(wanted, _fetched(fetcher, settings), name, console)


def _fetched(fetcher: Fetcher, settings: PullSettings) -> Path:
    with downloading(fetcher.listing.repo, _console(settings)):
        fetch_all(fetcher, stderr_console(settings.color), settings.quiet)
        return link_snapshot(fetcher.listing)


def _console(settings: PullSettings) -> Console:
    if settings.dry_run:
        return stdout_console(settings.color)
    return Console(quiet=True) if settings.quiet else stderr_console(settings.color)


def _already_here(repo: str, revision: str) -> Path:
    folder = hub.cached_folder(repo, revision)
    if folder is None:
        raise ModelNotFoundError(
            f"{repo} is not complete on this machine, and HF_HUB_OFFLINE forbids the network: unset it to download."
        )
    return folder
